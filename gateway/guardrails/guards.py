"""The guards of one gateway: what is costly to build is built once, and put together for each tenant and model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

import structlog

from gateway.exchange import Finding
from gateway.fail_policy import FailPolicy
from gateway.guard_settings import Guards as GuardSettings
from gateway.guard_settings import GuardTables, Mode
from gateway.guardrails.abuse import AbuseStage
from gateway.guardrails.aside import Aside
from gateway.guardrails.classifier import Classifier
from gateway.guardrails.cutting import Cutter, Onlooker
from gateway.guardrails.drift import LanguageStage
from gateway.guardrails.gate import Failsafe, Gate, Judging, Stage, TermsStage
from gateway.guardrails.grams import Table
from gateway.guardrails.kinds import Kinds
from gateway.guardrails.language import Detector
from gateway.guardrails.leaks import Instructions, LeakStage
from gateway.guardrails.loops import LoopStage
from gateway.guardrails.masking import MaskingStage
from gateway.guardrails.terms import Terms

log = structlog.get_logger()

MODELS: Final = Path(__file__).parent / "models"
# In this order everywhere: what is said of the answer first.
NAMES: Final = ("language", "terms", "personal_data", "injection", "moderation", "distress", "leaks", "loops")
TRAINED: Final = ("injection", "distress", "moderation")
NOTHING: Final = Finding("not_evaluated")  # there was nothing to judge
_OFF: Final = Finding("off")


@cache
def classifiers() -> dict[str, Classifier]:
    """The trained models by their names, read once, one after another: a file takes more memory than what is kept of it."""
    table = Table()
    return {name: Classifier.load(MODELS / f"{name}.json", table) for name in TRAINED}


def classifier(name: str) -> Classifier:
    """The trained model `name`."""
    return classifiers()[name]


@cache
def kinds() -> Kinds:
    """The table of kinds of abuse, read once."""
    return Kinds.load(MODELS / "kinds.json")


class Texts(NamedTuple):
    """What an answer is compared with: the instructions given to the model, what its caller said, and all of the request."""

    instructions: Instructions = Instructions(())
    said: tuple[str, ...] = ()
    every: tuple[str, ...] = ()


NONE: Final = Texts()


class Heard(NamedTuple):
    """Who counts: `judged` hears the verdict on each piece of an answer, `hidden` the kind of personal data and where it was."""

    judged: Callable[[str], None] = lambda _: None
    hidden: Callable[[str, str], None] = lambda kind, place: None


class Rules:
    """The guards as they are for one tenant and one model, compiled from their tables."""

    def __init__(
        self, tables: GuardTables, policy: FailPolicy, failed: Callable[[str, str], None], heard: Heard
    ) -> None:
        """`policy` says what becomes of a text that a guard fails on; `failed` hears of the guard and why."""
        self.tables, self.policy, self.failed, self.heard = tables, policy, failed, heard
        self.detector = Detector(tables.language.margin)
        self.terms = Terms(tables.terms.terms)
        self.canaries = Terms(tables.leaks.canaries)
        self.modes: Mapping[str, Mode] = {guard: self._mode(guard) for guard in NAMES}
        self._enforcing = frozenset(guard for guard, mode in self.modes.items() if mode == "enforce")
        if tables.personal_data.answers != "mask":  # whatever becomes of those in requests
            self._enforcing -= {"personal_data"}
        self.silent: Mapping[str, Finding] = {
            guard: _OFF if mode == "off" else NOTHING for guard, mode in self.modes.items()
        }
        # Guards that a request need not wait for until they are sure: they only annotate, and are passed over where they fail.
        self.unhurried = frozenset(guard for guard in TRAINED if self._goes_on(guard))
        self._thresholds: dict[tuple[str, str], float] = {}

    def mode(self, guard: str) -> Mode:
        """What the guard does."""
        return self.modes[guard]

    def _mode(self, guard: str) -> Mode:
        if guard == "terms" and not self.terms:
            return "off"
        if guard == "personal_data":
            own = self.tables.personal_data
            return "annotate" if {own.own, own.outside, own.answers} == {"allow"} else "enforce"
        mode: Mode = getattr(self.tables, guard).mode
        return mode

    def _goes_on(self, guard: str) -> bool:
        if guard == "moderation" and self.tables.moderation.judge is not None:
            return False  # whether a judge has to be asked depends on it
        return self.modes[guard] == "annotate" and self.is_open(enforce=False)

    def is_open(self, *, enforce: bool) -> bool:
        """Whether a text that a guard fails on goes on unchecked."""
        return (self.policy.enforcing_guards if enforce else self.policy.annotating_guards) == "open"

    def threshold(self, guard: str, name: str = "threshold") -> float:
        """The configured score, else the trained model's own."""
        known = self._thresholds.get((guard, name))
        if known is None:
            known = self._thresholds[guard, name] = self._threshold(guard, name)
        return known

    def first_threshold(self, guard: str) -> float:
        """The score from which the first look alone says what the guard would act upon."""
        given: float | None = getattr(self.tables, guard).threshold
        return classifier(guard).first_high if given is None else given

    def _threshold(self, guard: str, name: str) -> float:
        given: float | None = getattr(getattr(self.tables, guard), name)
        if given is not None:
            return given
        trained = classifier(guard)
        if name == "answers_threshold":  # answers have the first look alone: a second would hold up everybody's
            return trained.first_high
        return trained.low if name == "grey" else trained.high

    def gate(self, texts: Texts = NONE, allowed: frozenset[str] = frozenset(), last: Stage | None = None) -> Gate:
        """A fresh gate for one text of one answer; `allowed` languages are asked for, `last` is passed after all guards."""
        hold = self.tables.language.hold_characters
        language = []
        if self.modes["language"] != "off":
            language.append(self._safe("language", self.language(allowed, enforce=self._enforces("language"))))
        checks = self._checks(texts)
        terms = []
        if self.modes["terms"] != "off":
            terms.append(self._safe("terms", TermsStage(self.terms, enforce=self._enforces("terms"))))
        chain: list[Stage] = [*language, *checks]
        by_sentence = self._enforces("language") or any(self._enforces(safe.guard) for safe in checks)
        if not self._enforces("language") and by_sentence:
            chain = [Cutter(chain, hold=hold)]
        elif not self._enforces("language") and checks:
            chain = [*language, Onlooker(Cutter([*checks], hold=hold))]
        guards = {safe.guard: safe for safe in (*language, *checks, *terms)}
        stops = any(map(self._enforces, guards)) or not self.is_open(enforce=False)
        return Gate(
            guards,
            [*chain, *terms, *([last] if last else [])],
            together=by_sentence or not self._enforces("terms"),
            free=not stops and last is None,
        )

    def language(self, allowed: frozenset[str] = frozenset(), *, enforce: bool = True) -> LanguageStage:
        """A stage that judges whether a text is French, or in an `allowed` language."""
        hold = self.tables.language.hold_characters
        return LanguageStage(self.detector, hold=hold, enforce=enforce, allowed=allowed, judged=self.heard.judged)

    def _checks(self, texts: Texts) -> list[Failsafe]:
        """The stages that judge sentences."""
        stages: list[Failsafe] = []
        if self.modes["moderation"] != "off":
            limit = self.threshold("moderation", "answers_threshold")
            abuse = AbuseStage(classifier("moderation"), limit, enforce=self._enforces("moderation"))
            stages.append(self._safe("moderation", abuse))
        if self.modes["leaks"] != "off" and (self.canaries or texts.instructions):
            leaks = LeakStage(texts.instructions, self.canaries, texts.said, enforce=self._enforces("leaks"))
            stages.append(self._safe("leaks", leaks))
        if self.modes["loops"] != "off":
            stages.append(self._safe("loops", LoopStage(enforce=self._enforces("loops"))))
        masking = MaskingStage(texts.every, mask=self._enforces("personal_data"), hidden=self.heard.hidden)
        return [*stages, self._safe("personal_data", masking)]

    def _enforces(self, guard: str) -> bool:
        """Whether the guard stops or changes answers."""
        return guard in self._enforcing

    def _safe(self, guard: str, stage: Judging) -> Failsafe:
        open_, seconds = self.is_open(enforce=self._enforces(guard)), self.policy.guard_seconds
        return Failsafe(guard, stage, open_=open_, seconds=seconds, told=self.failed)


class Guards:
    """Gives the rules of a tenant and a model."""

    def __init__(
        self,
        settings: GuardSettings,
        policy: FailPolicy | None = None,
        failed: Callable[[str], None] | None = None,
        heard: Heard | None = None,
    ) -> None:
        """`policy` says what becomes of a text that a guard fails on; `failed` hears of the guard."""
        self._settings, self._policy, self._told, self._heard = (
            settings,
            policy or FailPolicy(),
            failed,
            heard or Heard(),
        )
        self._rules: dict[tuple[str | None, str | None], Rules] = {}  # bounded: names that the configuration knows
        self.aside = Aside()

    def of(self, tenant: str = "", model: str = "") -> Rules:
        """The rules that hold there: everybody's, then the model's own, then the tenant's own."""
        known = (
            tenant if tenant in self._settings.tenants else None,
            model if model in self._settings.models else None,
        )
        if known not in self._rules:
            tables: GuardTables = self._settings
            if known[1] is not None:
                tables = tables.but_for(self._settings.models[known[1]])
            if known[0] is not None:
                tables = tables.but_for(self._settings.tenants[known[0]])
            self._rules[known] = Rules(tables, self._policy, self._failed, self._heard)
        return self._rules[known]

    def load(self) -> None:
        """Read the models now that some rules need, or else the first request would wait for them. Raises BadModel."""
        named = [
            ("", ""),
            *((tenant, "") for tenant in self._settings.tenants),
            *(("", name) for name in self._settings.models),
        ]
        if any(self.of(tenant, model).modes[guard] != "off" for tenant, model in named for guard in TRAINED):
            classifiers()

    def _failed(self, guard: str, reason: str) -> None:
        log.error("guard_failed", guard=guard, reason=reason)
        if self._told is not None:
            self._told(guard)
