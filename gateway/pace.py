"""How often the tokens of a stream are handed on, where a worker has many streams.

Handing on costs about as much for several tokens as for one. Of few streams each token leaves as it comes. The more streams
there are, the longer each is left alone after its last tokens, so that a worker does not spend all its time on handing on, and
those who wait for their first word do not wait for that.
"""

from __future__ import annotations

from typing import Final

EACH: Final = 0.0003  # seconds between two looks at streams, of whichever: about four times what one takes
LONGEST: Final = 0.1  # seconds: what follows in such steps still reads like one text
_SHORTEST: Final = 0.001  # no timer is finer


class Pace:
    """The streams of one worker: how many have begun."""

    def __init__(self) -> None:
        self.streams = 0

    def pause(self) -> float:
        """Seconds that a stream is left alone after tokens of it have come."""
        return min(LONGEST, EACH * self.streams)


class Steps:
    """One stream among those of `pace`; times are those of the event loop, in seconds."""

    __slots__ = ("_begun", "_next", "_pace")

    def __init__(self, pace: Pace) -> None:
        self._pace, self._next, self._begun = pace, 0.0, False

    def came(self, now: float) -> None:
        """Tokens have come."""
        if not self._begun:
            self._begun = True
            self._pace.streams += 1
        self._next = now + self._pace.pause()

    def early(self, now: float) -> float:
        """Seconds until it is looked at again; 0: now."""
        left = self._next - now
        return left if left >= _SHORTEST else 0.0

    def end(self) -> None:
        """It has ended, or is given up; may be told more than once."""
        if self._begun:
            self._begun = False
            self._pace.streams -= 1
