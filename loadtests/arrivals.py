"""When the next question is due, whether or not the last ones are answered: an open loop.

A closed loop asks less when answers are slow, so that the slow times are measured less often than they would be met
("coordinated omission"). Here each question has a time at which it is due, and its times are counted from there, a wait for
a free user included.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator

from loadtests.profile import Profile


class Arrivals:
    """Times of a Poisson process whose rate is `rate` times the profile's share, by thinning (Lewis and Shedler, 1979).

    `rate` is for each user, in requests/s, so that several processes share the whole by their users; each announces itself by
    `joined` before the first asks. `clock` is in seconds.
    """

    def __init__(
        self,
        rate: float,
        profile: Profile,
        random: random.Random,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._rate, self._profile, self._random = rate, profile, random
        self._start, self._elapsed, self._users = clock(), 0.0, 0
        self.clock = clock

    def joined(self) -> None:
        """One user more."""
        self._users += 1

    def left(self) -> bool:
        """One user less; whether it was the last."""
        self._users -= 1
        return self._users == 0

    def next(self) -> float | None:
        """When, on the clock, the next question is due, perhaps in the past; None when the run is over."""
        while (share := self._profile.share_at(self._elapsed)) is not None:
            self._elapsed += self._random.expovariate(self._rate * max(1, self._users))
            share = self._profile.share_at(self._elapsed)
            if share is not None and self._random.random() < share:
                return self._start + self._elapsed
        return None

    def overdue(self) -> Iterator[float]:
        """The times that are due now and that nobody has taken."""
        now = self.clock()
        while (due := self.next()) is not None and due <= now:
            yield due
