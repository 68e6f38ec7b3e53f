"""Shares with their intervals."""

from __future__ import annotations

import math
from typing import Final, NamedTuple

_Z: Final = 1.959964  # two-sided 95 % of the normal distribution


class Rate(NamedTuple):
    """`passed` of `judged`: a share of 0 to 1 with its 95 % interval."""

    passed: int
    judged: int

    @property
    def share(self) -> float:
        """Not a number where nothing was judged."""
        return self.passed / self.judged if self.judged else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """The score interval of Wilson (1927, JASA 22:209-212); 0 to 1 where nothing was judged."""
        if not self.judged:
            return 0.0, 1.0
        square = _Z * _Z / self.judged
        middle = (self.share + square / 2) / (1 + square)
        half = _Z / (1 + square) * math.sqrt(self.share * (1 - self.share) / self.judged + square / (4 * self.judged))
        return max(0.0, middle - half), min(1.0, middle + half)
