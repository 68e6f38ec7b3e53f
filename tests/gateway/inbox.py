"""Receivers of alerts on loopback, and workers that tell them."""

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, MutableSequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from aiohttp import web
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine
from structlog.typing import EventDict

from gateway.alerts import Alerts, Schedule
from gateway.outbox import rows
from gateway.webhooks import Alerting

QUICK = Schedule(first=0.02, longest=0.05, tries=1000, limit=0.3, look=0.02)
NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
MONTH = ("user", "alice", "money_per_month", "2026-11")
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
HANG, DROP = -1, -2


@dataclass
class Inbox:
    """A receiver: what it was sent, and what it answers: the statuses of `answers` in turn, then 200."""

    url: str = ""
    posts: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    taken: list[dict[str, Any]] = field(default_factory=list)
    answers: deque[int] = field(default_factory=deque)
    always: int = 200
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    closing: asyncio.Event = field(default_factory=asyncio.Event)

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await request.read()
        status = self.answers.popleft() if self.answers else self.always
        async with self.changed:
            self.posts.append(({name.lower(): value for name, value in request.headers.items()}, body))
            if 200 <= status < 300:
                self.taken.append(json.loads(body))
            self.changed.notify_all()
        if status == HANG:
            await self.closing.wait()
        if status == DROP:
            assert request.transport is not None
            request.transport.abort()
        return web.Response(status=max(status, 200), headers={"location": f"{self.url}/elsewhere"})

    async def until(self, posts: int = 0, *, taken: int = 0) -> None:
        async with asyncio.timeout(20), self.changed:
            await self.changed.wait_for(lambda: len(self.posts) >= posts and len(self.taken) >= taken)

    def told(self) -> list[tuple[str, str, int]]:
        return [(taken["data"]["name"], taken["data"]["window"], taken["data"]["percent"]) for taken in self.taken]


@asynccontextmanager
async def inbox(*answers: int, always: int = 200, port: int = 0) -> AsyncIterator[Inbox]:
    made = Inbox(answers=deque(answers), always=always)
    runner = web.ServerRunner(web.Server(made.answer), shutdown_timeout=0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
    yield made
    made.closing.set()
    await runner.cleanup()


@asynccontextmanager
async def running(alerts: Alerts) -> AsyncIterator[Alerts]:
    task = asyncio.create_task(alerts.run())
    yield alerts
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def worker(engine: AsyncEngine, *urls: str, **settings: Any) -> Alerts:
    schedule, now = settings.pop("schedule", QUICK), settings.pop("now", lambda: datetime.now(UTC))
    return Alerts(
        engine, Alerting.model_validate({"urls": urls, **settings}), lambda: "EUR", now=now, schedule=schedule
    )


async def written(engine: AsyncEngine) -> list[dict[str, Any]]:
    async with engine.connect() as connection:
        return [dict(row) for row in (await connection.execute(select(rows).order_by(rows.c.percent))).mappings()]


async def done(engine: AsyncEngine, count: int) -> list[dict[str, Any]]:
    """The outbox, once nothing is left to do for `count` letters."""

    async def settled() -> bool:
        found = await written(engine)
        return len(found) == count and all(row["next_try"] is None for row in found)

    await until(settled)
    return await written(engine)


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    """What the database or the log shows has no event to wait for."""
    async with asyncio.timeout(20):
        while not await holds():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def logged(logs: MutableSequence[EventDict], *events: str) -> None:
    """Wait until each of `events` is in the log."""

    async def there() -> bool:
        return set(events) <= {entry["event"] for entry in logs}

    await until(there)
