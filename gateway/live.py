"""The requests to models that are under way in this process, and what became of all since it started.

Nothing of a prompt or an answer is known here, only their exchanges.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import deque
from collections.abc import Callable
from typing import Final, Literal

import msgspec

from gateway.exchange import Exchange, Outcome, State

Stage = Literal["reading", "waiting", "asked", "answering", "sending"]

# Upper bounds in seconds, each 1.3 times the one before, up to five minutes: a quantile is found to about 15 percent.
SECONDS: Final = tuple(round(0.01 * 1.3**step, 4) for step in range(40))


class Counts(msgspec.Struct):
    """Since the start, of requests that have ended; `tokens` were generated, those of answers under way included.

    Errors are ours or the model servers', refusals those of limits, guards and faulty requests. `french` answers came so by
    themselves, `repaired` ones after another try, `not_french` ones were not delivered as they were, `foreign` ones were because
    the guard only looks on. `first_text` has a number for each of `SECONDS` and one beyond, of the time until the first text.
    """

    requests: int = 0
    errors: int = 0
    refusals: int = 0
    tokens: int = 0
    french: int = 0
    repaired: int = 0
    not_french: int = 0
    foreign: int = 0
    first_text: list[int] = msgspec.field(default_factory=lambda: [0] * (len(SECONDS) + 1))

    def add(self, other: Counts) -> None:
        """Count what another process has counted."""
        for name in self.__struct_fields__:
            if name != "first_text":
                setattr(self, name, getattr(self, name) + getattr(other, name))
        self.first_text = [mine + theirs for mine, theirs in zip(self.first_text, other.first_text, strict=True)]


class Judged(msgspec.Struct):
    """Answers whose language was judged, by the names of `Counts`."""

    french: int = 0
    repaired: int = 0
    not_french: int = 0
    foreign: int = 0

    @property
    def share(self) -> float | None:
        """How many of the answers were delivered in French, from 0 to 1; None where there were none."""
        every = self.french + self.repaired + self.not_french + self.foreign
        return (self.french + self.repaired) / every if every else None

    def add(self, other: Judged) -> None:
        """Count what was counted elsewhere."""
        for name in self.__struct_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


_OF_VERDICT: Final = {"passed": "french", "modified": "repaired", "blocked": "not_french", "flagged": "foreign"}
_MINUTE: Final = 60  # seconds


class Live:
    """`clock` is that of the exchanges, in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._under_way: dict[str, Exchange] = {}
        self._ended = Counts()
        self._minute: deque[tuple[int, Judged]] = deque(
            maxlen=_MINUTE
        )  # by whole seconds of the clock, the last one last

    def follow(self, exchange: Exchange) -> Followed:
        """A context that lasts as long as the request."""
        return Followed(self, exchange)

    def begin(self, exchange: Exchange) -> None:
        """A request is under way."""
        self._under_way[exchange.id] = exchange

    def end(self, exchange: Exchange) -> None:
        """It is no more."""
        del self._under_way[exchange.id]
        self._count(exchange)

    def under_way(self) -> list[tuple[Exchange, float]]:
        """Every exchange under way and its seconds so far, the longest first."""
        now = self._clock()
        return [(exchange, now - exchange.started) for exchange in self._under_way.values()]

    def counts(self) -> Counts:
        """What was counted until now."""
        made = Counts()
        made.add(self._ended)
        made.tokens += sum(map(tokens, self._under_way.values()))
        return made

    def minute(self) -> Judged:
        """The answers that ended in this second of the clock and the 59 before it."""
        made, oldest = Judged(), int(self._clock()) - _MINUTE
        for second, judged in self._minute:
            if second > oldest:
                made.add(judged)
        return made

    def _this_second(self) -> Judged:
        second = int(self._clock())
        if not self._minute or self._minute[-1][0] != second:
            self._minute.append((second, Judged()))
        return self._minute[-1][1]

    def _count(self, exchange: Exchange) -> None:
        counts = self._ended
        counts.requests += 1
        counts.tokens += tokens(exchange)
        if exchange.state is State.TRUNCATED or exchange.status >= 500:
            counts.errors += 1
        elif exchange.state in (State.REFUSED, State.FAILED):
            counts.refusals += 1
        if exchange.attempts and (finding := exchange.guards.get("language")) is not None:
            name = _OF_VERDICT.get(finding.verdict)
            if name is not None:
                for where in (counts, self._this_second()):
                    setattr(where, name, getattr(where, name) + 1)
        if exchange.first_text is not None:
            counts.first_text[bisect_left(SECONDS, exchange.first_text - exchange.started)] += 1


class Followed:
    """An exchange is under way in here."""

    __slots__ = ("_exchange", "_live")

    def __init__(self, live: Live, exchange: Exchange) -> None:
        self._live, self._exchange = live, exchange

    def __enter__(self) -> None:
        self._live.begin(self._exchange)

    def __exit__(self, *_: object) -> None:
        self._live.end(self._exchange)


def tokens(exchange: Exchange) -> int:
    """What was generated for it by now: as the model server has counted, else a token for each delta."""
    return sum(attempt.completion_tokens or attempt.so_far for attempt in exchange.attempts)


def stage(exchange: Exchange) -> Stage:
    """How far it is: its body comes; guards, limits or a place; a model has it; text leaves; its last bytes leave."""
    if exchange.terminal:
        return "sending"
    if exchange.state is State.COMMITTED:
        return "answering"
    if exchange.attempts and exchange.attempts[-1].outcome not in (Outcome.FAILED, Outcome.DRIFTED):
        return "asked"
    return "waiting" if exchange.model else "reading"
