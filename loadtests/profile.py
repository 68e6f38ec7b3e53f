"""How much of the load there is, by time. Without locust, whose import changes the process it happens in."""

from __future__ import annotations

import math
from dataclasses import dataclass

SHAPES = ("ramp", "spike", "soak")


@dataclass(frozen=True)
class Profile:
    """The share of the users, or of the arrival rate, over a run; times in seconds.

    - `ramp`: evenly up within `ramp`, all of it for `hold`.
    - `spike`: up to `base` within `ramp`, there for `hold`, all of it at once for `spike`, `base` for `hold` again.
    - `soak`: up, `hold`, and evenly down, so that the return to rest is seen as well.
    """

    shape: str
    ramp: float
    hold: float
    base: float = 0.1
    spike: float = 30

    @property
    def length(self) -> float:
        """Seconds from the first user to the end."""
        return {
            "ramp": self.ramp + self.hold,
            "spike": self.ramp + 2 * self.hold + self.spike,
            "soak": 2 * self.ramp + self.hold,
        }[self.shape]

    def share_at(self, elapsed: float) -> float | None:
        """From 0 to 1, `elapsed` seconds into the run; None when it is over."""
        if elapsed >= self.length:
            return None
        top = self.base if self.shape == "spike" else 1.0
        if elapsed < self.ramp:
            return top * elapsed / self.ramp
        if self.shape == "spike" and 0 <= elapsed - self.ramp - self.hold < self.spike:
            return 1.0
        if self.shape == "soak" and elapsed > self.ramp + self.hold:
            return (self.length - elapsed) / self.ramp
        return top

    def users_at(self, elapsed: float, users: int) -> int | None:
        """How many of the `users` there are, at least one; None when the run is over."""
        share = self.share_at(elapsed)
        return None if share is None else max(1, math.ceil(users * share))
