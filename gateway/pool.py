"""A target's replicas, and which of them is asked: the less loaded of two chosen by chance.

Two choices are enough to keep queues short, and unlike the least loaded of all they do not send every gateway to the same
replica at once (Mitzenmacher, "The power of two choices in randomized load balancing", 2001).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from hashlib import blake2b
from types import TracebackType
from typing import Final, Self

from gateway.breaker import Breaker
from gateway.failure import Failure
from gateway.load import Load
from gateway.settings import Routing, Target

# Affinity yields when its replica has over half more to do than the other choice, and that by more than a few requests.
_MORE: Final = 1.5
_REQUESTS: Final = 4


@dataclass(slots=True)
class Replica:
    """One model server; `index` is its place in the configuration."""

    url: str
    index: int
    breaker: Breaker
    load: Load


class Call:
    """One request to one replica, as a context: it counts while it lasts, and the breaker is told how it ended.

    What ends it but a `Failure` (the client left, the request was at fault, the answer was not French) says nothing about the
    replica, and nor does a failure that `counts` not.
    """

    def __init__(self, replica: Replica) -> None:
        self.replica = replica
        self._period = 0

    def __enter__(self) -> Self:
        self._period = self.replica.breaker.enter()
        self.replica.load.in_flight += 1
        return self

    def begun(self) -> None:
        """The replica has begun to answer; may be told more than once."""
        self.replica.breaker.answering(self._period)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.replica.load.in_flight -= 1
        if error is None:
            self.replica.breaker.succeeded(self._period)
        elif isinstance(error, Failure) and error.counts:
            self.replica.breaker.failed(self._period)
        else:
            self.replica.breaker.left(self._period)


@dataclass(slots=True)
class Pool:
    """A target with its replicas. `affinity` is how many characters of a conversation decide its replica; 0 is none."""

    name: str
    target: Target
    replicas: list[Replica]
    chance: random.Random
    affinity: int = 0

    def choose(self, conversation: Iterable[str] = (), *, but: Replica | None = None) -> Replica | None:
        """The replica to ask, other than `but`; None when no breaker admits a request."""
        usable = [replica for replica in self.replicas if replica is not but and replica.breaker.admits()]
        if len(usable) < 2:
            return usable[0] if usable else None
        two = self.chance.sample(usable, 2)
        home = self._home(usable, conversation) if self.affinity else None
        loads = _loads([*two, home] if home else two)
        less = 1 if loads[1] < loads[0] else 0
        if home and loads[2] <= max(loads[less] * _MORE, loads[less] + _REQUESTS):
            return home
        return two[less]

    def wait(self) -> float:
        """Seconds until a replica may be asked; infinity while every one of them has its trial under way."""
        return min((replica.breaker.wait() for replica in self.replicas), default=float("inf"))

    def _home(self, usable: list[Replica], conversation: Iterable[str]) -> Replica:
        """Where this beginning was computed before: by rendezvous hashing, so that no other conversation moves when one goes."""
        beginning = "\n".join(conversation)[: self.affinity]
        return max(usable, key=lambda replica: blake2b(f"{replica.url}\n{beginning}".encode(), digest_size=8).digest())


def pool(name: str, target: Target, routing: Routing, *, chance: random.Random, clock: Callable[[], float]) -> Pool:
    """The pool of a target."""
    replicas = [
        Replica(
            str(url).rstrip("/"),
            index,
            Breaker(routing.failures, routing.cool_down_seconds, clock),
            Load(name, index, routing.scrape_seconds, clock),
        )
        for index, url in enumerate(target.urls)
    ]
    return Pool(name, target, replicas, chance, routing.affinity)


def _loads(replicas: list[Replica]) -> list[float]:
    """The load of each, in requests. Without fresh figures of one, by our own requests alone, or it would look idle."""
    own = [float(replica.load.in_flight) for replica in replicas]
    others = [more for replica in replicas if (more := replica.load.others()) is not None]
    return [ours + more for ours, more in zip(own, others, strict=True)] if len(others) == len(own) else own
