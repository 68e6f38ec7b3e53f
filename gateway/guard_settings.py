"""The configuration of the guards: what they do for everybody, and where a model or a tenant differs."""

from __future__ import annotations

from typing import Annotated, Final, Literal, Self

from pydantic import Field

from gateway.target import Part, Seconds

Mode = Literal["enforce", "annotate", "off"]
Share = Annotated[float, Field(ge=0, le=1)]
Text = Annotated[str, Field(min_length=1, max_length=2000)]
Words = Annotated[str, Field(min_length=1, max_length=200)]

# Numbers of the state (santé.gouv.fr, "3114" and "Numéros d'urgence"): free, day and night.
HELP: Final = (
    "Ce que vous vivez semble très difficile, et vous n'avez pas à y faire face en restant seul. Vous pouvez appeler le 3114, "
    "le numéro national de prévention du suicide : c'est gratuit, confidentiel, et quelqu'un répond à toute heure. En cas de "
    "danger immédiat, appelez le 15 ou le 112. Si vous le pouvez, parlez-en aussi à une personne de confiance."
)


class LanguageGuard(Part):
    """French is a contract on what is delivered: `enforce` holds text back until its sentence is checked.

    A streamed answer that leaves French after it has begun is continued from its last good sentence at most `repairs` times.
    `margin` is how far another language must lie above French.
    """

    mode: Mode = "enforce"
    hold_characters: Annotated[int, Field(ge=40, le=4000)] = 400
    margin: Share = 0.05
    repairs: Annotated[int, Field(ge=0, le=2)] = 2


class TermsGuard(Part):
    """Words that may neither come in nor go out, compared without regard to case, width or invisible characters."""

    mode: Mode = "enforce"
    terms: list[Words] = Field(default_factory=list)


class PersonalDataGuard(Part):
    """What becomes of personal data, found by their form and their check digits.

    `own` is about requests whatever target they go to, `outside` about what goes to a target that is outside: `pseudonymise`
    sends placeholders and puts the real values back into the answer. `answers` is about values that the request did not hold.
    """

    own: Literal["allow", "mask", "refuse"] = "allow"
    outside: Literal["allow", "mask", "refuse", "pseudonymise"] = "pseudonymise"
    answers: Literal["allow", "mask"] = "allow"


class InjectionGuard(Part):
    """Attempts to turn the model against its instructions; `threshold` is a score, by default the model file's own."""

    mode: Mode = "enforce"
    threshold: Share | None = None


class ModerationGuard(Part):
    """Insults, hate, threats, harassment. Thresholds are scores, by default the model file's own.

    A request whose score lies from `grey` up to `threshold` is put to the target `judge`, which has `judge_seconds`; without a
    judge it passes. An answer is stopped at `answers_threshold`.
    """

    mode: Mode = "enforce"
    threshold: Share | None = None
    grey: Share | None = None
    answers_threshold: Share | None = None
    judge: str | None = None
    judge_seconds: Seconds = 2


class DistressGuard(Part):
    """Somebody speaks of taking their life: they get `text`, in French, in place of a model's answer."""

    mode: Mode = "enforce"
    threshold: Share | None = None
    text: Text = HELP


class LeaksGuard(Part):
    """Instructions of the system message that are repeated in an answer, and `canaries`: texts that may be in no answer."""

    mode: Mode = "enforce"
    canaries: list[Annotated[str, Field(min_length=8, max_length=200)]] = Field(default_factory=list)


class LoopsGuard(Part):
    """Answers that go round in circles."""

    mode: Mode = "enforce"


class GuardTables(Part):
    """One table a guard."""

    language: LanguageGuard = LanguageGuard()
    terms: TermsGuard = TermsGuard()
    personal_data: PersonalDataGuard = PersonalDataGuard()
    injection: InjectionGuard = InjectionGuard()
    moderation: ModerationGuard = ModerationGuard()
    distress: DistressGuard = DistressGuard()
    leaks: LeaksGuard = LeaksGuard()
    loops: LoopsGuard = LoopsGuard()

    def but_for(self, other: GuardTables) -> Self:
        """These tables, with whatever `other` sets itself in place of what is here."""
        changed = {}
        for guard in other.model_fields_set & set(GuardTables.model_fields):
            ours, theirs = getattr(self, guard), getattr(other, guard)
            changed[guard] = ours.model_copy(update={key: getattr(theirs, key) for key in theirs.model_fields_set})
        return self.model_copy(update=changed)


class Guards(GuardTables):
    """The guards of everybody; `models` and `tenants` hold what is different for those. A tenant's word is the last."""

    models: dict[Words, GuardTables] = Field(default_factory=dict)
    tenants: dict[Words, GuardTables] = Field(default_factory=dict)

    def every(self) -> dict[str, GuardTables]:
        """All tables that may come into force, by where they stand: everybody's, and each model's and tenant's as they differ."""
        own = {f"guards.models.{name}": tables for name, tables in self.models.items()}
        own |= {f"guards.tenants.{name}": tables for name, tables in self.tenants.items()}
        return {"guards": self, **{place: self.but_for(tables) for place, tables in own.items()}}
