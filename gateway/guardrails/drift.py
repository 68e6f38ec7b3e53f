"""The language guard of one text: sentence by sentence, and a look at the end of a sentence that is long in coming."""

from __future__ import annotations

from collections.abc import Callable

from gateway.guardrails import fences, sentences
from gateway.guardrails.gate import Drift
from gateway.guardrails.language import Detector, Verdict

# Characters of a sentence under way between two looks at its end.
_STEP = 60


class LanguageStage:
    """Releases sentence by sentence; `annotate` releases at once and only counts.

    What it decides depends on the text alone, not on the pieces it comes in.
    """

    holds = True

    def __init__(
        self,
        detector: Detector,
        *,
        hold: int,
        enforce: bool,
        allowed: frozenset[str] = frozenset(),
        judged: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`hold`: characters held back at most; `allowed`: languages beside French (ISO 639-1); `judged` hears each verdict."""
        self._judged = judged
        self._detector = detector
        self._hold = hold
        self._enforce = enforce
        self._allowed = allowed
        self._text = ""
        self._start = 0  # the sentence under way; what lies before it is judged, but too short to decide
        self._seen = 0  # no sentence ends before here
        self._look = _STEP  # where the sentence under way is next looked at
        self._wake = min(_STEP, hold + 1)  # up to here only the end of a sentence matters
        self._fence: fences.Fence | None = None
        self._line_head = True
        self.french = 0
        self.foreign = 0

    @property
    def verdict(self) -> Verdict:
        """The verdict on all that was judged so far."""
        if self.foreign:
            return Verdict.FOREIGN
        return Verdict.FRENCH if self.french else Verdict.UNDECIDED

    def finding(self) -> str:
        """See `Judging`."""
        return {Verdict.FOREIGN: "flagged", Verdict.FRENCH: "passed"}.get(self.verdict, "not_evaluated")

    def feed(self, text: str) -> str:
        """See `Stage`."""
        before = len(self._text)
        self._text += text
        size = before + len(text)
        # Most pieces are parts of words, and there is nothing to do yet.
        if self._seen == before and size < self._wake and sentences.settled(text):
            self._seen = size
            return "" if self._enforce else text
        released = ""
        while (stop := self._end()) is not None:
            released += self._judge(stop)
        self._seen = max(self._start, sentences.open_from(self._text, text, self._seen))
        if self._seen >= self._look:
            self._look_until(self._seen)
        return released if self._enforce else text

    def finish(self) -> str:
        """See `Stage`."""
        released = self._judge(len(self._text)) if self._text else ""
        released, self._text = released + self._text, ""
        return released if self._enforce else ""

    def _end(self) -> int | None:
        if self._fence is not None:
            line = self._text.find("\n", self._start, self._start + self._hold) + 1 or self._start + self._hold
            return line if len(self._text) >= line else None
        stop = sentences.whole(self._text, self._start, self._hold, self._seen)
        if stop is None and len(self._text) - self._start > self._hold:
            self._look_until(self._start + self._hold)  # as if it had come piece by piece
            stop = sentences.cut(self._text, self._start, self._hold)
        return stop

    def _look_until(self, stop: int) -> None:
        """Looks at the end of the sentence under way every `_STEP` characters up to `stop`."""
        while self._look <= stop:
            look = self._look
            self._look_at(look + _STEP)
            space = self._text.rfind(" ", self._start, look)
            if self._fence is None and space > 0 and self._detector.drifts(self._text[:space], self._allowed):
                self._drift()

    def _drift(self) -> None:
        self.foreign += 1
        self._judged("foreign")
        if self._enforce:
            self._text = ""
            raise Drift

    def _judge(self, stop: int) -> str:
        text = self._text
        self._look_until(stop)
        verdict, settled = self._verdict(text[self._start : stop], stop)
        if verdict is Verdict.FOREIGN:
            self._drift()
        else:
            self._judged(verdict.name.lower())
        self.french += verdict is Verdict.FRENCH
        if verdict is Verdict.UNDECIDED and not settled and stop <= self._hold:
            self._begin(stop)
            return ""
        released, self._text = text[:stop], text[stop:]
        self._begin(0)
        return released

    def _begin(self, start: int) -> None:
        self._start = self._seen = start
        self._look_at(start + _STEP)

    def _look_at(self, place: int) -> None:
        self._look = place
        self._wake = min(place, self._start + self._hold + 1)

    def _verdict(self, sentence: str, stop: int) -> tuple[Verdict, bool]:
        """The verdict on a sentence, and whether what is held may leave without one."""
        head, self._line_head = self._line_head, sentence.endswith("\n")
        if self._fence is not None:
            return self._fenced(sentence, self._fence, head=head)
        if head and ("```" in sentence or "~~~" in sentence):
            self._fence = fences.opened(sentence) if self._line_head else None
            if self._fence is not None:
                return Verdict.UNDECIDED, True
        verdict = self._detector.judge(sentence, self._allowed)
        if verdict is Verdict.UNDECIDED and self._start:
            verdict = self._detector.judge(self._text[:stop], self._allowed)
        return verdict, False

    def _fenced(self, line: str, fence: fences.Fence, *, head: bool) -> tuple[Verdict, bool]:
        if head and self._line_head and fence.closed_by(line):
            self._fence = None
            return Verdict.UNDECIDED, True
        prose = fence.prose(line)
        if prose and self._detector.judge(prose, self._allowed) is Verdict.FOREIGN and fence.foreign(prose):
            return Verdict.FOREIGN, True
        return Verdict.UNDECIDED, not fence.suspect
