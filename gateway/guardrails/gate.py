"""The output gate: text goes in as the model says it, and comes out once the guards have passed it.

A gate is a chain of stages; each holds back what it cannot judge yet. With the language guard in `enforce` the unit is the
sentence; the terms guard alone holds back no more than the beginning of a term. A stage that finds a violation raises: what
has not been given back by then is never delivered.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from time import perf_counter
from typing import Protocol

from gateway.guardrails import sentences
from gateway.guardrails.language import Detector, Verdict
from gateway.guardrails.terms import Terms, fold, in_word

# A line that begins or ends fenced code (CommonMark 0.31, section 4.5); a list item or a block quotation may begin with it.
_FENCE = re.compile(r"[ \t>]*((?:[-*+]|\d{1,9}[.)])[ \t]+)?(`{3,}|~{3,})([^\n]*)\n")


class Violation(Exception):
    """Text that must not be delivered. `guard` names the guard; the text itself is not kept."""

    guard = ""


class Drift(Violation):
    """A sentence is not French."""

    guard = "language"


class ForbiddenTerm(Violation):
    """A forbidden term stands in the answer."""

    guard = "terms"


class GuardFailed(Violation):
    """A guard raised, or took too long, and must not be passed over."""

    def __init__(self, guard: str) -> None:
        super().__init__()
        self.guard = guard


class Stage(Protocol):
    """One guard over one text."""

    def feed(self, text: str) -> str:
        """What may leave, in order, now that `text` has come; raises `Violation`."""

    def finish(self) -> str:
        """The rest, now that nothing more comes; raises `Violation`."""


class LanguageStage:
    """Releases sentence by sentence; `annotate` releases at once and only counts."""

    def __init__(self, detector: Detector, *, hold: int, enforce: bool) -> None:
        self._detector = detector
        self._hold = hold
        self._enforce = enforce
        self._text = ""
        self._start = 0  # the sentence under way; what lies before it is judged, but too short to decide
        self._fence = ""
        self._line_head = True
        self.french = 0
        self.foreign = 0

    @property
    def verdict(self) -> Verdict:
        """The verdict on all that was judged so far."""
        if self.foreign:
            return Verdict.FOREIGN
        return Verdict.FRENCH if self.french else Verdict.UNDECIDED

    def feed(self, text: str) -> str:
        """See `Stage`."""
        self._text += text
        released = ""
        while (stop := sentences.end(self._text, self._start, self._hold)) is not None:
            released += self._judge(stop)
        return released if self._enforce else text

    def finish(self) -> str:
        """See `Stage`."""
        released = self._judge(len(self._text)) if self._text else ""
        released, self._text = released + self._text, ""
        return released if self._enforce else ""

    def _judge(self, stop: int) -> str:
        verdict = self._verdict(self._text[self._start : stop], self._text[:stop])
        if verdict is Verdict.FOREIGN:
            self.foreign += 1
            if self._enforce:
                self._text = ""
                raise Drift
        self.french += verdict is Verdict.FRENCH
        if verdict is Verdict.UNDECIDED and not self._fence and stop <= self._hold:
            self._start = stop
            return ""
        released, self._text, self._start = self._text[:stop], self._text[stop:], 0
        return released

    def _verdict(self, sentence: str, held: str) -> Verdict:
        # The state of a code fence spans sentences: a line break ends one, so a line that is a fence is one of its own.
        line = _FENCE.fullmatch(sentence) if self._line_head else None
        self._line_head = sentence.endswith("\n")
        if line and self._fenced(*line.groups()):
            return Verdict.UNDECIDED
        if self._fence:
            return Verdict.UNDECIDED
        verdict = self._detector.judge(sentence)
        return self._detector.judge(held) if verdict is Verdict.UNDECIDED and held != sentence else verdict

    def _fenced(self, item: str | None, mark: str, rest: str) -> bool:
        """Whether the line begins or ends code; an opening line with a second back-tick is code within a sentence."""
        if self._fence and (item or not mark.startswith(self._fence) or rest.strip()):
            return False
        if not self._fence and mark[0] == "`" and "`" in rest:
            return False
        self._fence = "" if self._fence else mark
        return True


# Stands for "a word is under way" before or after text: counts as part of a word, and no term contains it alone.
_IN_WORD = "\u0300"


def _edge(neighbour: str) -> str:
    return _IN_WORD if neighbour and in_word(neighbour) else ""


class TermsStage:
    """Releases all but the possible beginning of a forbidden term; `annotate` releases at once and only counts."""

    def __init__(self, terms: Terms, *, enforce: bool) -> None:
        self._terms = terms
        self._enforce = enforce
        self._text = ""
        self._context = ""
        self.found = 0

    def feed(self, text: str) -> str:
        """See `Stage`."""
        self._text += text
        cut = self._terms.hold(self._context + self._text) - len(self._context)
        released = self._release(cut)
        return released if self._enforce else text

    def finish(self) -> str:
        """See `Stage`."""
        released = self._release(len(self._text))
        return released if self._enforce else ""

    def _release(self, cut: int) -> str:
        released, self._text = self._text[:cut], self._text[cut:]
        if self._terms.found(self._context + released + _edge(fold(self._text)[:1])):
            self.found += 1
            if self._enforce:
                raise ForbiddenTerm
        if visible := fold(released):
            self._context = _edge(visible[-1])
        return released


class Failsafe:
    """A stage that may fail: then it lets nothing through any more, or, `open`, everything.

    `told` hears why. A stage cannot be interrupted: one that took over `seconds` for a text has failed after the fact.
    """

    def __init__(
        self, guard: str, stage: Stage, *, open_: bool, seconds: float, told: Callable[[str, str], None]
    ) -> None:
        self._guard, self._stage, self._open, self._seconds, self._told = guard, stage, open_, seconds, told
        self._held = ""  # what has come and not left; kept only where it may have to leave
        self.failed = False

    def feed(self, text: str) -> str:
        """See `Stage`."""
        return self._passed(text, self._stage.feed)

    def finish(self) -> str:
        """See `Stage`."""
        return self._passed("", lambda _: self._stage.finish())

    def _passed(self, text: str, step: Callable[[str], str]) -> str:
        if self._open:
            self._held += text
        if self.failed:
            return self._without()
        began = perf_counter()
        try:
            released = step(text)
        except Violation:
            raise
        except Exception as error:  # noqa: BLE001  # whatever goes wrong in a guard, it has not checked the text
            return self._fail(type(error).__name__)
        if perf_counter() - began > self._seconds:
            return self._fail("timeout")
        if self._open:
            self._held = self._held[len(released) :]
        return released

    def _fail(self, reason: str) -> str:
        self.failed = True
        self._told(self._guard, reason)
        return self._without()

    def _without(self) -> str:
        if not self._open:
            raise GuardFailed(self._guard)
        released, self._held = self._held, ""
        return released


class Gate:
    """The stages of one text of one answer, in order."""

    def __init__(
        self,
        language: LanguageStage | None,
        terms: TermsStage | None,
        safe: Callable[[str, Stage], Failsafe] | None = None,
    ) -> None:
        """`safe` puts a failsafe around the stage of a guard."""
        self.language = language
        self.terms = terms
        given: dict[str, Stage | None] = {"language": language, "terms": terms}
        stages = {name: stage for name, stage in given.items() if stage is not None}
        self.safes = {name: safe(name, stage) for name, stage in stages.items()} if safe else {}
        self._stages: list[Stage] = list(self.safes.values() if safe else stages.values())

    def failed(self, guard: str) -> bool:
        """Whether a guard has failed here."""
        return guard in self.safes and self.safes[guard].failed

    def feed(self, text: str) -> str:
        """What may be delivered now; raises `Violation`."""
        for stage in self._stages:
            if not text:
                return ""
            text = stage.feed(text)
        return text

    def finish(self) -> str:
        """The rest of the text, checked; raises `Violation`."""
        text = ""
        for stage in self._stages:
            text = (stage.feed(text) if text else "") + stage.finish()
        return text
