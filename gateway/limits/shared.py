"""Limits counted on Redis, for any number of workers and machines: the twin of `memory.Memory`.

While Redis is away each worker counts for itself, its share of every limit, and asks again every second; or refuses everybody,
as the operator has chosen.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from hashlib import sha1
from typing import Any, Final, NamedTuple

import structlog
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError

from gateway.errors import LimitsUnavailable
from gateway.limits.checks import Check, Reservation, Standing, Unseeded
from gateway.limits.memory import Memory
from gateway.limits.scripts import LOOK, RENEW, RESERVE, SETTLE, looking, reserving, settling

log = structlog.get_logger()

LEASE_SECONDS: Final = 30.0
_REDIS_SECONDS: Final = 1.0
_AGAIN_SECONDS: Final = 1.0
_UNSETTLED: Final = 100_000  # while Redis is away; what is dropped beyond is found in the ledger
_AWAY: Final = (RedisError, OSError, TimeoutError)
_RESERVE: Final = sha1(RESERVE.encode()).hexdigest()  # noqa: S324  # how Redis names scripts
_SETTLE: Final = sha1(SETTLE.encode()).hexdigest()  # noqa: S324
_BATCH: Final = 64
_SEEN: Final = 10_000


_Unsettled = tuple[Reservation, Sequence[int]]


class _Ask(NamedTuple):
    reservation: Reservation
    checks: Sequence[Check]
    answer: asyncio.Future[list[Any]]


def connect(url: str, seconds: float = _REDIS_SECONDS) -> Redis:
    """A client that answers or fails within so many seconds: a step that was sent is never sent again by itself."""
    return Redis.from_url(
        url,
        socket_timeout=seconds,
        socket_connect_timeout=seconds,
        retry=Retry(NoBackoff(), 0),
    )


class Shared:
    """See `memory.Limiter`. `run` keeps the lease, and finds Redis again.

    What the requests of an instant ask and settle goes in one round trip, what is settled first.
    """

    def __init__(
        self,
        redis: Redis,
        *,
        workers: int,
        degrade: bool = True,
        spent: Callable[[Check, int], None] | None = None,
        away: Callable[[bool], None] | None = None,
        lost: Callable[[Sequence[Check]], None] | None = None,
        prefix: str = "passerelle",
        lease: float = LEASE_SECONDS,
    ) -> None:
        """`away` hears when Redis goes and comes back, `lost` which budgets the ledger has to be asked about again."""
        self._redis, self._workers, self._degrade, self._lease = redis, workers, degrade, lease
        self._prefix = f"{{{prefix}}}:"  # one slot of a Redis Cluster, as a script needs
        self._told, self._heard, self._lost = spent, away, lost
        self._worker, self._new = uuid.uuid4().hex, True
        self._own: Memory | None = None  # while Redis is away
        self._gone = asyncio.Event()
        self._asks: deque[_Ask] = deque()
        self._unsettled: deque[_Unsettled] = deque(maxlen=_UNSETTLED)
        self._seen: OrderedDict[str, int] = OrderedDict()  # what was spent of budgets when it was last heard of
        self._flushing: asyncio.Task[None] | None = None

    async def reserve(self, checks: Sequence[Check]) -> Reservation:
        """See `memory.Limiter`; raises LimitsUnavailable while Redis is away and that is the policy."""
        checks = [self._at_least(check) for check in checks]
        if self._own is None:
            reservation = Reservation(uuid.uuid4().hex, [Standing(check, 0.0) for check in checks], holder=self)
            with suppress(*_AWAY):
                return await self._reserved(reservation, checks)
        if self._own is None or not self._degrade:
            raise LimitsUnavailable("The limits cannot be checked at the moment.", headers={"retry-after": "2"})
        reservation = self._own.reserve_now([check.share(self._workers) for check in checks])
        reservation.degraded = True
        return reservation

    def settle(self, reservation: Reservation, actual: Sequence[int]) -> None:
        """See `memory.Limiter`; it is sent by a task of its own, later if Redis is away."""
        if isinstance(reservation.holder, Memory):  # of a time without Redis
            reservation.holder.settle(reservation, actual)
            return
        if reservation.settled is None and self._own is None:
            reservation.settled = asyncio.get_running_loop().create_future()
        self._unsettled.append((reservation, actual))
        self._flush()

    async def settled(self, reservation: Reservation) -> None:
        """See `memory.Limiter`."""
        if reservation.settled is not None:
            await asyncio.shield(reservation.settled)

    async def look(self, checks: Sequence[Check]) -> list[Standing]:
        """See `memory.Limiter`. While Redis is away, where this worker's share stands; nothing is known if none is counted."""
        if self._own is not None:
            return self._own.look_now([check.share(self._workers) for check in checks])
        found: list[Standing] = []
        for start in range(0, len(checks), _BATCH):  # no script holds up Redis for long
            some = checks[start : start + _BATCH]
            keys = [f"{self._prefix}workers", *(f"{self._prefix}{check.key}" for check in some)]
            try:
                answer: Any = await self._redis.eval(LOOK, len(keys), *keys, self._worker, *looking(some))
            except _AWAY:  # whoever reserves next will say so
                return []
            rows = zip(some, answer[::2], answer[1::2], strict=True)
            found += [Standing(check, float(left), int(spent)) for check, left, spent in rows]
        return found

    async def run(self) -> None:
        """For ever: keep the lease while requests are long, look for Redis while it is away."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._lease / 3):
                    await self._gone.wait()
            while self._own is not None:
                await asyncio.sleep(_AGAIN_SECONDS)
                await self._look()
            await self._keep()

    async def close(self) -> None:
        """Send what is left, and hold nothing any longer."""
        if self._flushing is not None:
            await asyncio.wait([self._flushing])
        with suppress(*_AWAY):
            await self._redis.zrem(f"{self._prefix}workers", self._worker)
        await self._redis.aclose()

    async def _reserved(self, reservation: Reservation, checks: Sequence[Check]) -> Reservation:
        answer = await self._asked(reservation, checks)
        while answer[0] == b"expired":  # it was stopped for longer than its lease, or Redis has lost everything
            if reservation.worker == self._worker:  # the first to hear of it
                self._worker, self._new = uuid.uuid4().hex, True
            answer = await self._asked(reservation, checks)
        if answer[0] == b"unseeded":
            raise Unseeded(checks[place - 1] for place in answer[1:])
        reservation.refused = answer[0] == b"refused"
        rows = zip(checks, answer[1::2], answer[2::2], strict=True)
        reservation.standings = [Standing(check, float(left), int(spent)) for check, left, spent in rows]
        for standing in reservation.standings:
            self._see(standing.check, standing.spent)
        return reservation

    def _see(self, check: Check, spent: int) -> None:
        if check.kind == "budget":
            self._seen[check.key] = spent
            while len(self._seen) > _SEEN:
                self._seen.popitem(last=False)

    def _at_least(self, check: Check) -> Check:
        """The check with what this worker knows of a budget, where that matters: the ledger is some moments behind."""
        seen = self._seen.get(check.key)
        if seen is None or (check.floor is None and self._own is None):
            return check
        return check.at_least(max(check.floor or 0, seen))

    async def _asked(self, reservation: Reservation, checks: Sequence[Check]) -> list[Any]:
        ask = _Ask(reservation, checks, asyncio.get_running_loop().create_future())
        self._asks.append(ask)
        self._flush()
        try:
            return await ask.answer
        except asyncio.CancelledError:
            if ask in self._asks:  # not sent yet
                self._asks.remove(ask)
            else:
                self.settle(reservation, [0] * len(checks))
            raise

    def _flush(self) -> None:
        if self._own is None and (self._flushing is None or self._flushing.done()):
            self._flushing = asyncio.create_task(self._send())

    async def _send(self) -> None:
        """Send what waits. What has not been answered is settled again later: that changes nothing twice."""
        while self._asks or self._unsettled:
            ends = [self._unsettled[place] for place in range(min(len(self._unsettled), _BATCH))]
            asks = [self._asks.popleft() for _ in range(min(len(self._asks), _BATCH))]
            try:
                answers = await self._sent(ends, asks)
            except _AWAY as error:
                self._away(error, asks)
                return
            for end in ends:
                if self._unsettled and self._unsettled[0] is end:  # unless it was pushed out meanwhile
                    self._unsettled.popleft()
                _done(end[0])
            for ask, answer in zip(asks, answers[len(ends) :], strict=True):
                if answer[0] != b"expired" and ask.reservation.worker == self._worker:
                    self._new = False
                if not ask.answer.done():
                    ask.answer.set_result(answer)
            for (reservation, _), spent in zip(ends, answers, strict=False):
                self._tell([standing.check for standing in reservation.standings], spent)

    async def _sent(self, ends: Sequence[_Unsettled], asks: Sequence[_Ask]) -> list[Any]:
        pipeline = self._redis.pipeline(transaction=False)
        for reservation, actual in ends:
            checks = [standing.check for standing in reservation.standings]
            keys = self._keys(reservation.worker, checks)
            arguments: list[Any] = [reservation.worker, reservation.id, *settling(checks, actual)]
            pipeline.evalsha(_SETTLE, len(keys), *keys, *arguments)
        for ask in asks:
            ask.reservation.worker = self._worker
            keys = self._keys(self._worker, ask.checks)
            leased: list[Any] = [self._worker, self._lease, int(self._new), ask.reservation.id]
            pipeline.evalsha(_RESERVE, len(keys), *keys, *leased, *reserving(ask.checks))
        try:
            answers: list[Any] = await pipeline.execute()
        except NoScriptError:  # of both, then: they come and go together
            await self._redis.script_load(SETTLE)
            await self._redis.script_load(RESERVE)
            return await self._sent(ends, asks)
        return answers

    def _tell(self, checks: Sequence[Check], spent: Sequence[bytes]) -> None:
        # Nothing at all: Redis did not know the reservation (any more).
        rows = zip(checks, spent or [b""] * len(checks), strict=True)
        budgets = [row for row in rows if row[0].kind == "budget"]
        missing = [check for check, now in budgets if not now]
        if missing and self._lost is not None:
            self._lost(missing)
        for check, now in budgets:
            if now:
                self._see(check, int(now))
                if self._told is not None:
                    self._told(check, int(now))

    async def _keep(self) -> None:
        worker = self._worker
        try:
            kept = self._new or await self._redis.eval(RENEW, 1, f"{self._prefix}workers", worker, self._lease)
        except _AWAY as error:
            self._away(error)
            return
        if not kept and worker == self._worker:
            self._worker, self._new = uuid.uuid4().hex, True

    async def _look(self) -> None:
        try:
            await self._redis.ping()
        except _AWAY:
            return
        self._own, own = None, self._own
        self._gone.clear()
        if own is not None:
            self._seen |= own.spent()
        log.info("limits_shared_again")
        if self._heard is not None:
            self._heard(False)
        self._flush()

    def _away(self, error: Exception, asks: Sequence[_Ask] = ()) -> None:
        if self._own is None:
            self._own = Memory()  # what it counts is a share of a limit: nothing to tell of a budget
            self._gone.set()
            log.warning("limits_degraded", reason=type(error).__name__)
            if self._heard is not None:
                self._heard(True)
        for reservation, _ in self._unsettled:  # nobody should wait
            _done(reservation)
        for ask in asks:  # whether they were counted nobody knows: they are taken back in any case
            self._unsettled.append((ask.reservation, [0] * len(ask.checks)))
        for ask in (*asks, *self._asks):
            if not ask.answer.done():
                ask.answer.set_exception(RedisError("away"))
        self._asks.clear()

    def _keys(self, worker: str, checks: Sequence[Check]) -> list[str]:
        counters = (f"{self._prefix}{check.key}" for check in checks)
        return [f"{self._prefix}workers", f"{self._prefix}open:{worker}", *counters]


def _done(reservation: Reservation) -> None:
    if reservation.settled is not None and not reservation.settled.done():
        reservation.settled.set_result(None)
