"""Insults, hate, threats and harassment in an answer."""

from __future__ import annotations

from typing import Final

from gateway.guardrails.classifier import Classifier
from gateway.guardrails.gate import Violation
from gateway.guardrails.language import has_letters

_LETTERS: Final = 10  # of a sentence: a line of code or a name alone is no abuse that a model would say


class Abuse(Violation):
    """A sentence that moderation does not let out."""

    guard = "moderation"


class AbuseStage:
    """Takes an answer sentence by sentence; `enforce` stops it before one whose score reaches `threshold`."""

    holds = False

    def __init__(self, classifier: Classifier, threshold: float, *, enforce: bool) -> None:
        self._classifier, self._threshold, self._enforce = classifier, threshold, enforce
        self.found = 0

    def feed(self, text: str) -> str:
        """See `Stage`."""
        if has_letters(text, _LETTERS) and self._classifier.look(text).probability >= self._threshold:
            self.found += 1
            if self._enforce:
                raise Abuse
        return text

    def finish(self) -> str:
        """See `Stage`."""
        return ""

    def finding(self) -> str:
        """See `Judging`."""
        return "flagged" if self.found else "passed"
