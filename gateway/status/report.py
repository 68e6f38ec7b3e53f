"""The form of `/admin/status`, of what one worker says for it, and how the words of several become one.

Fields that are not known are passed over: in the middle of an upgrade workers of two versions stand side by side.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal

import msgspec

from gateway.live import Counts, Judged, Stage

REQUESTS: Final = 200
LIMITS: Final = 50

_BREAKERS: Final = ("closed", "trial", "open")


class Running(msgspec.Struct, kw_only=True):
    """A request under way: no word of it, only whose it is and where. `tokens` were generated so far."""

    request_id: str
    tenant: str
    model: str
    target: str | None
    replica: int | None
    state: Stage
    seconds: float
    tokens: int


class Limit(msgspec.Struct, kw_only=True):
    """How much of a limit is used, what is reserved included; in `unit`, which for money is a currency.

    `until` is when all of it is there again, in ISO 8601; null of places. Addresses and models belong to no tenant.
    """

    scope: Literal["address", "key", "user", "tenant", "model"]
    name: str
    tenant: str | None
    measure: str
    limit: float
    used: float
    unit: str
    until: str | None

    @property
    def share(self) -> float:
        """How much of it is used, from 0 on."""
        return self.used / self.limit


class Replica(msgspec.Struct, kw_only=True):
    """A model server. `running`, `waiting`, `cache` (0 to 1) and `generated` (tokens since its start) are its own figures.

    `down` is null where nobody probes it. `in_flight` are requests of this installation, `problem` is why its metrics cannot be
    used.
    """

    index: int
    address: str
    breaker: Literal["closed", "trial", "open"]
    down: bool | None
    in_flight: int
    running: float | None = None
    waiting: float | None = None
    cache: float | None = None
    generated: float | None = None
    problem: str | None = None

    def join(self, other: Replica) -> None:
        """Add what another worker knows of it; the worst that one of them has seen counts."""
        self.breaker = max(self.breaker, other.breaker, key=_BREAKERS.index)
        self.down = self.down or other.down
        self.in_flight += other.in_flight
        self.problem = self.problem or other.problem
        if self.running is None or (other.generated or 0) > (self.generated or 0):  # the fresher of two readings
            self.running, self.waiting = other.running, other.waiting
            self.cache, self.generated = other.cache, other.generated


class TargetLoad(msgspec.Struct, kw_only=True):
    """A target and the published models that it answers for; `places` is how many requests it may have at once, 0 for any."""

    name: str
    models: list[str]
    outside: bool
    in_flight: int
    waiting: int
    places: int
    replicas: list[Replica]

    def join(self, other: TargetLoad) -> None:
        """Add another worker's part of it."""
        self.in_flight += other.in_flight
        self.waiting += other.waiting
        self.places = self.places + other.places if self.places and other.places else 0
        known = {replica.address: replica for replica in self.replicas}
        for replica in other.replicas:
            if replica.address in known:
                known[replica.address].join(replica)
            else:
                self.replicas.append(replica)


class Worker(msgspec.Struct, kw_only=True):
    """A process; `since` is when it started, in ISO 8601. `in_flight` are its requests to models."""

    id: str
    pid: int
    since: str
    in_flight: int


class Installation(msgspec.Struct, kw_only=True):
    """What belongs to no tenant. `silent` workers are there and do not answer; the counts are without theirs.

    `minute`: the answers of the last minute.
    """

    workers: list[Worker]
    silent: int
    degraded: list[str]
    targets: list[TargetLoad]
    counts: Counts
    minute: Judged = msgspec.field(default_factory=Judged)


class Word(msgspec.Struct, kw_only=True):
    """What one worker says: all of its own, for whoever answers an operator. `in_flight` are those that may be shown."""

    in_flight: int
    requests: list[Running]
    limits: list[Limit]
    installation: Installation


class Status(msgspec.Struct, kw_only=True):
    """The answer. `tenant`: of that one alone; `installation` is for operators of the installation."""

    object: Literal["status"] = "status"
    at: str
    version: str
    tenant: str | None
    in_flight: int
    requests: list[Running]
    limits: list[Limit]
    installation: Installation | None


def joined(words: Iterable[Word]) -> Word:
    """The words of all workers as one; the first is changed."""
    first, *others = words
    for other in others:
        first.in_flight += other.in_flight
        _join(first.installation, other.installation)
    first.requests = longest(request for word in (first, *others) for request in word.requests)
    first.limits = nearest(limit for word in (first, *others) for limit in word.limits)
    return first


def longest(requests: Iterable[Running]) -> list[Running]:
    """Those that have run for longest."""
    return sorted(requests, key=lambda request: -request.seconds)[:REQUESTS]


def nearest(limits: Iterable[Limit]) -> list[Limit]:
    """Those of which most is used. Where each process counts for itself, the process that has counted most speaks."""
    worst: dict[tuple[str, str | None, str, str], Limit] = {}
    for limit in limits:
        key = (limit.scope, limit.tenant, limit.name, limit.measure)
        if key not in worst or worst[key].share < limit.share:
            worst[key] = limit
    return sorted(worst.values(), key=lambda limit: -limit.share)[:LIMITS]


def _join(mine: Installation, other: Installation) -> None:
    mine.workers += other.workers
    mine.degraded += [part for part in other.degraded if part not in mine.degraded]
    mine.counts.add(other.counts)
    mine.minute.add(other.minute)
    known = {target.name: target for target in mine.targets}
    for target in other.targets:
        if target.name in known:
            known[target.name].join(target)
        else:
            mine.targets.append(target)
