"""Answers that go round in circles: a small model repeats a phrase for ever.

The end of the text is looked at after each sentence. It loops if it is what stands before it, again and again; how often is too
often depends on how long what is repeated is, as refrains and lists repeat little words. Only letters count: with its numbers, a
numbered loop would not be one.
"""

from __future__ import annotations

import re
from typing import Final

from gateway.guardrails.gate import Violation

_BETWEEN: Final = re.compile(r"[\W\d_]+")
# Characters of a text without all but its words.
_REMEMBERED: Final = 6000  # what repeats over a longer way is no loop of a model but a text
_KEY: Final = 12  # at the end, by which earlier places are found
_PLACES: Final = 4  # of them that are tried
_SHORT: Final = 30  # what is shorter...
_SHORT_RUN: Final = 600  # ... must be repeated for so long
_COPIES: Final = 3  # after the first, of what is longer


class Loop(Violation):
    """The answer repeats itself."""

    guard = "loops"


class LoopStage:
    """Takes an answer sentence by sentence; `enforce` stops it at the sentence that closes a loop."""

    holds = False

    def __init__(self, *, enforce: bool) -> None:
        self._enforce = enforce
        self._words = ""
        self.found = 0

    def feed(self, text: str) -> str:
        """See `Stage`."""
        self._words = f"{self._words[-_REMEMBERED:]}{_BETWEEN.sub(' ', text.lower())}".replace("  ", " ")
        if _loops(self._words):
            self.found += 1
            if self._enforce:
                raise Loop
        return text

    def finish(self) -> str:
        """See `Stage`."""
        return ""

    def finding(self) -> str:
        """See `Judging`."""
        if not self.found:
            return "passed"
        return "modified" if self._enforce else "flagged"


def _loops(words: str) -> bool:
    words = words.rstrip()
    end = len(words)
    key, place = words[-_KEY:], end
    for _ in range(_PLACES):
        place = words.rfind(key, 0, place - 1)
        if place < 0:
            return False
        period = end - _KEY - place
        block = words[-period:]
        least = (block + block).find(block, 1)  # what is repeated may itself be something shorter, repeated
        run = _SHORT_RUN if least < _SHORT else _COPIES * period - 1  # without the last space
        if run + period <= end and words[-run:] == words[-run - period : -period]:
            return True
    return False
