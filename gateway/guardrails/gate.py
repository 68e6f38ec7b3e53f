"""The output gate: text goes in as the model says it, and comes out once the guards have passed it.

A gate is a chain of stages; each holds back what it cannot judge yet. With the language guard in `enforce` the unit is the
sentence; the terms guard alone holds back no more than the beginning of a term. A stage that finds a violation raises: what
has not been given back by then is never delivered.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from time import perf_counter
from typing import Protocol

from gateway.guardrails.sentences import settled
from gateway.guardrails.terms import Terms, fold, in_word

_UNSEEN = 240  # characters that have left before the guards look at them, where they only look on


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


class Judging(Stage, Protocol):
    """The stage of a guard. `holds`: it may hold text back, and gives back no other text than it got; else it has no rest."""

    holds: bool

    def finding(self) -> str:
        """What it makes of the text so far: `passed`, `flagged`, `modified` or `not_evaluated`."""


# Stands for "a word is under way" before or after text: counts as part of a word, and no term contains it alone.
_IN_WORD = "\u0300"


def _edge(neighbour: str) -> str:
    return _IN_WORD if neighbour and in_word(neighbour) else ""


class TermsStage:
    """Releases all but the possible beginning of a forbidden term; `annotate` releases at once and only counts."""

    holds = True

    def __init__(self, terms: Terms, *, enforce: bool) -> None:
        self._terms = terms
        self._enforce = enforce
        self._text = ""
        self._context = ""
        self.found = 0

    def finding(self) -> str:
        """See `Judging`."""
        return "flagged" if self.found else "passed"

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

    `told` hears why. A stage cannot be interrupted: one that took over `seconds` for a text has failed after the fact. `spent`
    is how many seconds it took for all its texts.
    """

    def __init__(
        self, guard: str, stage: Judging, *, open_: bool, seconds: float, told: Callable[[str, str], None]
    ) -> None:
        self.guard, self._stage, self._open, self._seconds, self._told = guard, stage, open_, seconds, told
        self._held = ""  # what has come and not left; kept only where it may have to leave
        self.failed = False
        self.spent = 0.0

    def feed(self, text: str) -> str:
        """See `Stage`."""
        if self._open:
            self._held += text
        if self.failed:
            return self._without()
        began = perf_counter()
        try:
            released = self._stage.feed(text)
        except Violation:
            self.spent += perf_counter() - began
            raise
        except Exception as error:  # noqa: BLE001  # whatever goes wrong in a guard, it has not checked the text
            return self._fail(type(error).__name__)
        return self._passed(released, perf_counter() - began)

    def finish(self) -> str:
        """See `Stage`."""
        if self.failed:
            return self._without()
        if not self._stage.holds:
            return ""
        began = perf_counter()
        try:
            released = self._stage.finish()
        except Violation:
            self.spent += perf_counter() - began
            raise
        except Exception as error:  # noqa: BLE001  # as above
            return self._fail(type(error).__name__)
        return self._passed(released, perf_counter() - began)

    def finding(self) -> str:
        """See `Judging`."""
        return "not_evaluated" if self.failed else self._stage.finding()

    def _passed(self, released: str, took: float) -> str:
        self.spent += took
        if took > self._seconds:
            return self._fail("timeout")
        if self._open:
            self._held = self._held[len(released) :] if self._stage.holds else ""
        return released

    def _fail(self, reason: str) -> str:
        self.failed = True
        self._told(self.guard, reason)
        return self._without()

    def _without(self) -> str:
        if not self._open:
            raise GuardFailed(self.guard)
        released, self._held = self._held, ""
        return released


class Gate:
    """The way of one text of one answer: `guards` by their names, and the `chain` of stages they are in.

    `together`: tokens that came on end may be fed as one, for it would not change what leaves. It would where text leaves before
    its sentence has ended, and a later token may stop it. `free`: no stage holds, changes or stops anything, so all text leaves
    as it comes, and is looked at when a sentence may have ended, not word by word.
    """

    def __init__(
        self, guards: Mapping[str, Failsafe], chain: Sequence[Stage], *, together: bool = True, free: bool = False
    ) -> None:
        self._guards, self._chain, self.together, self.free = guards, chain, together, free
        self._unseen = ""  # has left, and nobody has looked at it yet

    @property
    def guards(self) -> Mapping[str, Failsafe]:
        """The guards by their names; they have seen all that has come."""
        self._look()
        return self._guards

    @property
    def masked(self) -> bool:
        """Whether personal data was taken out of the text."""
        safe = self._guards.get("personal_data")
        return safe is not None and safe.finding() == "modified"

    def feed(self, text: str) -> str:
        """What may be delivered now; raises `Violation`."""
        if not self.free:
            return self._through(text)
        self._unseen += text
        if len(self._unseen) >= _UNSEEN or not settled(text):
            self._look()
        return text

    def finish(self) -> str:
        """The rest of the text, checked; raises `Violation`."""
        self._look()
        text = ""
        for stage in self._chain:
            text = (stage.feed(text) if text else "") + stage.finish()
        return text

    def _look(self) -> None:
        if self._unseen:
            text, self._unseen = self._unseen, ""
            self._through(text)

    def _through(self, text: str) -> str:
        for stage in self._chain:
            if not text:
                return ""
            text = stage.feed(text)
        return text
