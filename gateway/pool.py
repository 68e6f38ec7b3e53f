"""A target's replicas, and which of them is asked: the less loaded of two chosen by chance.

Two choices are enough to keep queues short, and unlike the least loaded of all they do not send every gateway to the same
replica at once (Mitzenmacher, "The power of two choices in randomized load balancing", 2001).
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from hashlib import blake2b
from types import TracebackType
from typing import Final, Self

from gateway.admission import Admission
from gateway.breaker import Breaker
from gateway.busy import Busy
from gateway.failure import Failure
from gateway.load import Load
from gateway.settings import Routing
from gateway.target import Target

# Affinity yields when its replica has over half more to do than the other choice, and that by more than a few requests.
_MORE: Final = 1.5
_REQUESTS: Final = 4


@dataclass(slots=True)
class Replica:
    """One model server; `index` is its place in the configuration, `context_length` what it says of itself, in tokens."""

    url: str
    index: int
    breaker: Breaker
    load: Load
    busy: Busy
    context_length: int | None = None


class Call:
    """One request to one replica, as a context: it counts while it lasts, and the breaker is told how it ended.

    What ends it but a `Failure` (the client left, the request was at fault, the answer was not French) says nothing about the
    replica, and nor does a failure that `counts` not.
    """

    def __init__(self, replica: Replica) -> None:
        self.replica = replica
        self.tell: Callable[[float], None] | None = (
            None  # hears at the end how much of the replica's busy time was its own
        )
        self._period, self._entered = 0, 0.0

    def __enter__(self) -> Self:
        self._period = self.replica.breaker.enter()
        self.replica.load.in_flight += 1
        self._entered = self.replica.busy.enter()
        return self

    def begun(self) -> None:
        """The replica has begun to answer; may be told more than once."""
        self.replica.breaker.answering(self._period)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.replica.load.in_flight -= 1
        seconds = self.replica.busy.leave(self._entered)
        if self.tell is not None:
            self.tell(seconds)
        if error is None:
            self.replica.breaker.succeeded(self._period)
        elif isinstance(error, Failure) and error.counts:
            self.replica.breaker.failed(self._period)
        else:
            self.replica.breaker.left(self._period)


@dataclass(slots=True)
class Pool:
    """A target with its replicas. `affinity` is how many characters of a conversation decide its replica; 0 is none.

    `key` is the upstream key. `probed`: what probes say of the replicas counts. `admission` may be shared with another target
    of the same servers; `waiting` and `under_way` count this target's own requests in it.
    """

    name: str
    target: Target
    replicas: list[Replica]
    chance: random.Random
    admission: Admission
    affinity: int = 0
    key: str | None = field(default=None, repr=False)
    probed: bool = False
    waiting: int = 0
    under_way: int = 0

    def blind(self) -> bool:
        """Whether what a replica shows of itself cannot be used, so that our own counts alone choose among them.

        Of one that is down nothing is expected.
        """
        asked = (replica for replica in self.replicas if not replica.breaker.down())
        return self.target.kind == "vllm" and any(replica.load.blind() for replica in asked)

    def choose(self, conversation: Iterable[str] = (), *, but: Replica | None = None) -> Replica | None:
        """The replica to ask, other than `but`; None when there is none that may be asked."""
        usable = [replica for replica in self._usable() if replica is not but]
        if len(usable) < 2:
            return usable[0] if usable else None
        two = self.chance.sample(usable, 2)
        home = self._home(usable, conversation) if self.affinity else None
        loads = _loads([*two, home] if home else two)
        less = 1 if loads[1] < loads[0] else 0
        if home and loads[2] <= max(loads[less] * _MORE, loads[less] + _REQUESTS):
            return home
        return two[less]

    def _usable(self) -> list[Replica]:
        """Those whose breaker admits a request and that are not down by their probes.

        If probes say so of all of them, the breakers alone decide: probes time out together where servers have merely too much
        to do (Envoy, "Panic threshold").
        """
        admitted = [replica for replica in self.replicas if replica.breaker.admits()]
        if not self.probed:
            return admitted
        return [replica for replica in admitted if not replica.breaker.down()] or admitted

    @property
    def context_length(self) -> int | None:
        """The tokens that prompt and answer may have together: as configured, else the least that a replica says."""
        if self.target.context_length:
            return self.target.context_length
        said = [replica.context_length for replica in self.replicas if replica.context_length is not None]
        return min(said, default=None)

    def wait(self) -> float:
        """Seconds until a replica may be asked; infinity while every one of them has its trial under way."""
        return min((replica.breaker.wait() for replica in self.replicas), default=float("inf"))

    def become(
        self,
        target: Target,
        routing: Routing,
        *,
        clock: Callable[[], float],
        workers: int,
        key: str | None,
        admission: Admission | None = None,
    ) -> None:
        """Go on as `target`, with another admission if one is given: who is in the old one stays there.

        A replica whose URL stays is the same as before: its breaker, its load, its requests.
        """
        self.admission = admission or self.admission
        before = list(self.replicas)
        self.replicas = []
        for index, url in enumerate(_urls(target)):
            replica = next((known for known in before if known.url == url), None)
            if replica is None:
                breaker = Breaker(routing.failures, routing.cool_down_seconds, clock)
                load = Load(self.name, index, routing.scrape_seconds, clock)
                replica = Replica(url, index, breaker, load, Busy(clock, load.others))
            else:
                before.remove(replica)
                replica.index = index
                replica.breaker.adjust(routing.failures, routing.cool_down_seconds)
                replica.load.adjust(index, routing.scrape_seconds)
                if target.model != self.target.model:  # what it said was of another one
                    replica.context_length = None
            self.replicas.append(replica)
        self.admission.resize(places(target, workers), target.queue_length, target.queue_seconds)
        self.target, self.key, self.affinity = target, key, routing.affinity
        self.probed = bool(routing.probe_seconds) and not target.outside

    def _home(self, usable: list[Replica], conversation: Iterable[str]) -> Replica:
        """Where this beginning was computed before: by rendezvous hashing, so that no other conversation moves when one goes."""
        beginning = "\n".join(conversation)[: self.affinity]
        return max(usable, key=lambda replica: blake2b(f"{replica.url}\n{beginning}".encode(), digest_size=8).digest())


def pool(
    name: str,
    target: Target,
    routing: Routing,
    *,
    chance: random.Random,
    clock: Callable[[], float],
    workers: int = 1,
    key: str | None = None,
    admission: Admission | None = None,
) -> Pool:
    """The pool of a target; `workers` is how many processes share it, each with a part of its places."""
    admission = admission or Admission(places(target, workers), target.queue_length, target.queue_seconds, clock)
    made = Pool(name, target, [], chance, admission)
    made.become(target, routing, clock=clock, workers=workers, key=key)
    return made


def places(target: Target, workers: int) -> int:
    """How many requests one of `workers` processes may have at a target at once; 0 is no bound."""
    return math.ceil(target.concurrency * len(target.urls) / workers)


def queue_of(name: str, target: Target) -> Hashable:
    """What a target must have in common with others to share their admission: our own model servers, and its bounds.

    An adapter is a target on the servers of its base model: apart from each other they would ask for twice the places there are.
    """
    if target.kind != "vllm":  # elsewhere each model has limits of its own
        return name
    return tuple(sorted(_urls(target))), target.concurrency, target.queue_length, target.queue_seconds


def _urls(target: Target) -> list[str]:
    return [str(url).rstrip("/") for url in target.urls]


def _loads(replicas: list[Replica]) -> list[float]:
    """The load of each, in requests. Without fresh figures of one, by our own requests alone, or it would look idle."""
    own = [float(replica.load.in_flight) for replica in replicas]
    others = [more for replica in replicas if (more := replica.load.others()) is not None]
    return [ours + more for ours, more in zip(own, others, strict=True)] if len(others) == len(own) else own
