"""The guards of one gateway, built once from the settings: what may come in, and a gate for each text that goes out."""

from __future__ import annotations

from collections.abc import Iterable

from gateway.errors import ContentPolicy
from gateway.guardrails.gate import Gate, LanguageStage, TermsStage
from gateway.guardrails.language import Detector, Verdict
from gateway.guardrails.terms import Terms
from gateway.settings import Guards as GuardSettings


class Guards:
    """Holds what is costly to build: the detector and the compiled list of terms."""

    def __init__(self, settings: GuardSettings) -> None:
        self._settings = settings
        self._detector = Detector(settings.language.margin)
        self._terms = Terms(settings.terms.terms)

    def admit(self, texts: Iterable[str], *, param: str) -> None:
        """Lets a request in; `param` is the field that holds its texts.

        Raises:
            ContentPolicy: a message holds a forbidden term. The term is not echoed.
        """
        if self._settings.terms.mode == "enforce" and self._terms and any(map(self._terms.found, texts)):
            raise ContentPolicy("Votre demande contient un terme que ce service n'accepte pas.", param=param)

    def gate(self) -> Gate:
        """A fresh gate for one text of one answer."""
        language, terms = self._settings.language, self._settings.terms
        return Gate(
            LanguageStage(self._detector, hold=language.hold_characters, enforce=language.mode == "enforce")
            if language.mode != "off"
            else None,
            TermsStage(self._terms, enforce=terms.mode == "enforce") if terms.mode != "off" and self._terms else None,
        )

    def audit(self, gates: Iterable[Gate], *, blocked_by: str | None = None, repairs: int = 0) -> dict[str, str]:
        """What each guard decided on an answer: `passed`, `blocked`, `modified`, `flagged` or `off`.

        `flagged` is what `annotate` says where `enforce` would have acted; `not_evaluated` means too little prose, or no
        answer at all.
        """
        gates = list(gates)
        language = [gate.language for gate in gates if gate.language is not None]
        terms = [gate.terms for gate in gates if gate.terms is not None]
        verdicts = {
            "language": "off" if self._settings.language.mode == "off" else _language(language, repairs),
            "terms": "off" if self._settings.terms.mode == "off" or not self._terms else _terms(terms),
        }
        if blocked_by:
            verdicts[blocked_by] = "blocked"
        return verdicts


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
