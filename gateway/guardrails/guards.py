"""The guards of one gateway, built once from the settings: what may come in, and a gate for each text that goes out."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from time import perf_counter

import structlog

from gateway.errors import ContentPolicy, GuardUnavailable
from gateway.fail_policy import FailPolicy
from gateway.guardrails.gate import Failsafe, Gate, LanguageStage, Stage, TermsStage
from gateway.guardrails.language import Detector, Verdict
from gateway.guardrails.terms import Terms
from gateway.settings import Guards as GuardSettings

log = structlog.get_logger()


class Guards:
    """Holds what is costly to build: the detector and the compiled list of terms."""

    def __init__(
        self,
        settings: GuardSettings,
        policy: FailPolicy | None = None,
        failed: Callable[[str], None] | None = None,
    ) -> None:
        """`policy` says what becomes of a text that a guard fails on; `failed` hears of the guard."""
        self._settings, self._policy, self._heard = settings, policy or FailPolicy(), failed
        self._detector = Detector(settings.language.margin)
        self._terms = Terms(settings.terms.terms)

    def admit(self, texts: Iterable[str], *, param: str) -> None:
        """Lets a request in; `param` is the field that holds its texts.

        Raises:
            ContentPolicy: a message holds a forbidden term. The term is not echoed.
            GuardUnavailable: nobody can tell, and the policy is to refuse then.
        """
        if self._settings.terms.mode != "enforce" or not self._terms:
            return
        began = perf_counter()
        try:
            found = any(map(self._terms.found, texts))
        except Exception as error:  # noqa: BLE001  # whatever goes wrong in a guard, it has not checked the text
            self._unchecked("terms", type(error).__name__)
            return
        if found:
            raise ContentPolicy("Votre demande contient un terme que ce service n'accepte pas.", param=param)
        if perf_counter() - began > self._policy.guard_seconds:
            self._unchecked("terms", "timeout")

    def gate(self) -> Gate:
        """A fresh gate for one text of one answer."""
        language, terms = self._settings.language, self._settings.terms
        return Gate(
            LanguageStage(self._detector, hold=language.hold_characters, enforce=language.mode == "enforce")
            if language.mode != "off"
            else None,
            TermsStage(self._terms, enforce=terms.mode == "enforce") if terms.mode != "off" and self._terms else None,
            self._failsafe,
        )

    def audit(self, gates: Iterable[Gate], *, blocked_by: str | None = None, repairs: int = 0) -> dict[str, str]:
        """What each guard decided on an answer: `passed`, `blocked`, `modified`, `flagged` or `off`.

        `flagged` is what `annotate` says where `enforce` would have acted; `not_evaluated` means too little prose, no answer at
        all, or that the guard has failed.
        """
        gates = list(gates)
        language = [gate.language for gate in gates if gate.language is not None]
        terms = [gate.terms for gate in gates if gate.terms is not None]
        verdicts = {
            "language": "off" if self._settings.language.mode == "off" else _language(language, repairs),
            "terms": "off" if self._settings.terms.mode == "off" or not self._terms else _terms(terms),
        }
        for guard in verdicts:
            if any(gate.failed(guard) for gate in gates):
                verdicts[guard] = "not_evaluated"
        if blocked_by:
            verdicts[blocked_by] = "blocked"
        return verdicts

    def _failsafe(self, guard: str, stage: Stage) -> Failsafe:
        mode = self._settings.language.mode if guard == "language" else self._settings.terms.mode
        policy = self._policy.enforcing_guards if mode == "enforce" else self._policy.annotating_guards
        return Failsafe(guard, stage, open_=policy == "open", seconds=self._policy.guard_seconds, told=self._failed)

    def _failed(self, guard: str, reason: str) -> None:
        log.error("guard_failed", guard=guard, reason=reason)
        if self._heard is not None:
            self._heard(guard)

    def _unchecked(self, guard: str, reason: str) -> None:
        self._failed(guard, reason)
        if self._policy.enforcing_guards == "closed":
            raise GuardUnavailable(
                "Votre demande ne peut pas être vérifiée pour le moment : réessayez dans un instant.",
                headers={"retry-after": "5"},
            )


def _terms(stages: list[TermsStage]) -> str:
    if not stages:
        return "not_evaluated"
    return "flagged" if any(stage.found for stage in stages) else "passed"


def _language(stages: list[LanguageStage], repairs: int) -> str:
    if any(stage.verdict is Verdict.FOREIGN for stage in stages):
        return "flagged"
    if repairs:
        return "modified"
    return "passed" if any(stage.verdict is Verdict.FRENCH for stage in stages) else "not_evaluated"
