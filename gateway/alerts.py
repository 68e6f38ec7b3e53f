"""Alerts: whoever is configured is told once when so many percent of a budget are spent.

What is crossed waits in memory for moments, then in the outbox of the database, whence one worker at a time takes it and sends
it, again and again until the receiver says 2xx. A receiver may get the same alert twice, when a worker dies between sending
and writing that down; the `webhook-id` is then the same.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

import aiohttp
import orjson
import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from auth.errors import StoreUnavailable
from gateway.outbox import Crossing, Letter, Outbox, fitting
from gateway.webhooks import Alerting, headers

log = structlog.get_logger()

_TOLD: Final = 100_000  # crossings that a worker remembers; the outbox knows the others
_WAITING: Final = 10_000  # crossings that wait for the database
_LEASE_MARGIN_SECONDS: Final = 50  # beyond a try's own time limit: for a slow database, and for clocks that differ
_FORGET_EVERY: Final = timedelta(days=1)
_AWAY: Final = (SQLAlchemyError, StoreUnavailable, OSError)


@dataclass(frozen=True)
class Schedule:
    """When a receiver is tried again, in seconds: after `first`, then twice as long each time, up to `longest`.

    Each is shortened by up to a half, by chance. A try may take `limit`; after `tries`, which is about three days, an alert is
    given up. The outbox is looked into every `look` for what other workers left.
    """

    first: float = 5
    longest: float = 3600
    tries: int = 100
    limit: float = 10
    look: float = 5

    def wait(self, tries: int, chance: random.Random) -> timedelta:
        """How long to wait after so many tries."""
        doubled = self.first * 2 ** min(tries - 1, 30)
        return timedelta(seconds=min(self.longest, doubled) * chance.uniform(0.5, 1))


@dataclass(frozen=True)
class Receiver:
    """One address; `index` counts the configured ones from 0 and is all that logs say of it."""

    index: int
    url: str = field(repr=False)
    digest: str
    woken: asyncio.Event = field(default_factory=asyncio.Event, repr=False)


class Alerts:
    """One for each worker. `currency` gives what money is counted in now: a reload may change it."""

    def __init__(
        self,
        engine: AsyncEngine,
        alerting: Alerting,
        currency: Callable[[], str],
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        schedule: Schedule | None = None,
    ) -> None:
        self._outbox, self._currency, self._now = Outbox(engine), currency, now
        self._percents, self._secret = alerting.percents, alerting.secret
        self._schedule = schedule or Schedule()
        self._chance = random.Random()  # noqa: S311  # when to try again: no secret
        self._receivers = _receivers(alerting)
        self._told: set[Crossing] = set()
        self._waiting: list[Letter] = []
        self._crossed = asyncio.Event()
        self._forgot: datetime | None = None

    def spent(
        self,
        scope: str,
        name: str,
        measure: str,
        window: str,
        used: Decimal | int,
        limit: Decimal | int,
        *,
        exhausted: bool = False,
    ) -> None:
        """So much of a budget is spent. Cheap, and to be called whenever that is learnt: only what is new is told.

        `scope` is address, key, user, tenant or model; `measure` e.g. `money_per_month`; `window` e.g. `2026-11`. A `limit` of
        0 is none. `exhausted`: what is left is too little for a request, which counts as all of it.
        """
        if not self._receivers or limit <= 0:
            return
        for percent in self._percents:
            if used * 100 < limit * percent and not exhausted:
                return
            if (scope, name, measure, window, percent) not in self._told:
                self._cross(Crossing(scope, name, measure, window, percent), used, limit)

    async def run(self) -> None:
        """Write down and send until cancelled; a database or a receiver that is away is tried again."""
        if not self._receivers:
            return
        timeout = aiohttp.ClientTimeout(total=self._schedule.limit)
        cookies = aiohttp.DummyCookieJar()
        async with (
            aiohttp.ClientSession(timeout=timeout, cookie_jar=cookies, headers={"user-agent": "passerelle"}) as session,
            asyncio.TaskGroup() as group,
        ):
            group.create_task(self._write_on())
            for receiver in self._receivers:  # each by itself: one that hangs holds up no other
                group.create_task(self._send_on(session, receiver))

    async def write(self) -> None:
        """Move what waits in memory into the outbox; it goes on waiting when the database is away, which raises."""
        batch = self._waiting[:]
        await self._outbox.put(batch)
        del self._waiting[: len(batch)]
        for receiver in self._receivers:
            receiver.woken.set()

    async def close(self) -> None:
        """Write down what `run` did not come to."""
        try:
            await self.write()
        except _AWAY as error:
            log.error("alerts_lost", alerts=len(self._waiting), reason=type(error).__name__)  # noqa: TRY400  # it may hold an address

    def _cross(self, crossing: Crossing, used: Decimal | int, limit: Decimal | int) -> None:
        if len(self._waiting) >= _WAITING:  # not remembered as told: the next request that is settled tries again
            return
        if len(self._told) >= _TOLD:
            self._told.clear()
        self._told.add(crossing)
        at, message = self._now(), f"msg_{uuid.uuid4().hex}"
        stored = fitting(crossing)
        body = _body(stored, at, used, limit, self._currency())
        self._waiting += [Letter(stored, receiver.digest, message, at, body) for receiver in self._receivers]
        self._crossed.set()

    async def _write_on(self) -> None:
        while True:
            await self._crossed.wait()
            self._crossed.clear()
            try:
                await self.write()
                await self._forget()
            except _AWAY as error:
                log.warning("alerts_wait", alerts=len(self._waiting), reason=type(error).__name__)
                await asyncio.sleep(self._schedule.look)
                self._crossed.set()

    async def _forget(self) -> None:
        now = self._now()
        if self._forgot is None or now - self._forgot > _FORGET_EVERY:
            await self._outbox.forget(now)
            self._forgot = now

    async def _send_on(self, session: aiohttp.ClientSession, receiver: Receiver) -> None:
        lease = timedelta(seconds=self._schedule.limit + _LEASE_MARGIN_SECONDS)
        while True:
            receiver.woken.clear()
            try:
                while letter := await self._outbox.take(receiver.digest, self._now(), lease):
                    await self._send(session, receiver, letter)
            except _AWAY as error:
                log.warning("outbox_away", receiver=receiver.index, reason=type(error).__name__)
            with suppress(TimeoutError):
                await asyncio.wait_for(receiver.woken.wait(), self._schedule.look)

    async def _send(self, session: aiohttp.ClientSession, receiver: Receiver, letter: Letter) -> None:
        failure = await self._post(session, receiver, letter)
        crossing = letter.crossing
        told = {
            "webhook_id": letter.message,
            "receiver": receiver.index,
            "scope": crossing.scope,
            "measure": crossing.measure,
            "percent": crossing.percent,
            "tries": letter.tries,
        }
        if failure is None:
            await self._outbox.sent(letter, self._now())
            log.info("alert_sent", **told)
        elif letter.tries >= self._schedule.tries:
            await self._outbox.again(letter, None)
            log.error("alert_given_up", reason=failure, **told)
        else:
            await self._outbox.again(letter, self._now() + self._schedule.wait(letter.tries, self._chance))
            log.warning("alert_not_taken", reason=failure, **told)

    async def _post(self, session: aiohttp.ClientSession, receiver: Receiver, letter: Letter) -> str | None:
        """Why the receiver did not take it, without its address; None where it did."""
        body = letter.body.encode()
        sent = headers(letter.message, self._now(), body, self._secret)
        try:
            # Redirects are not followed: an alert goes to configured addresses alone.
            async with session.post(receiver.url, data=body, headers=sent, allow_redirects=False) as answer:
                return None if 200 <= answer.status < 300 else f"status {answer.status}"
        except (
            aiohttp.ClientError,
            OSError,
            ValueError,
        ) as error:  # OSError: a time limit too; ValueError: a host's name
            return type(error).__name__


def _receivers(alerting: Alerting) -> list[Receiver]:
    """Each address once. Its digest is what the outbox knows it by: the address may hold a token."""
    urls = dict.fromkeys(str(url.get_secret_value()) for url in alerting.urls)
    return [Receiver(index, url, hashlib.sha256(url.encode()).hexdigest()[:32]) for index, url in enumerate(urls)]


def _body(crossing: Crossing, at: datetime, used: Decimal | int, limit: Decimal | int, currency: str) -> str:
    money = crossing.measure.startswith("money")
    data: dict[str, Any] = {
        **crossing._asdict(),
        "used": _amount(used, exact=money),
        "limit": _amount(limit, exact=money),
        "currency": currency if money else None,
    }
    stamped = {"type": "budget.threshold", "timestamp": at.isoformat(), "data": data}
    return orjson.dumps(stamped).decode()


def _amount(amount: Decimal | int, *, exact: bool) -> int | str:
    """Money and fractions as a string: many a reader makes a float of a number."""
    if isinstance(amount, int) and not exact:
        return amount
    plain = format(Decimal(amount), "f")
    return plain.rstrip("0").rstrip(".") if "." in plain else plain
