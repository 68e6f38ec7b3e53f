"""What runs beside the requests: opened at start, closed in order at the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from auth.errors import AuthError
from gateway import upkeep
from gateway.alerts import Alerts
from gateway.dependencies import Dependencies
from gateway.identities import Identities
from gateway.journal import Journal
from gateway.ledger import Ledger
from gateway.metrics import Metrics
from gateway.reload import Reload
from gateway.siblings import Siblings
from gateway.upstream import Upstream
from gateway.watching import Watching

if TYPE_CHECKING:
    from gateway.limits.shared import Shared
    from gateway.tracing import Tracer

log = structlog.get_logger()


@dataclass(frozen=True)
class Parts:
    """What has to be opened at start and closed at the end."""

    engine: AsyncEngine
    identities: Identities
    ledger: Ledger
    journal: Journal
    alerts: Alerts
    upstream: Upstream
    watching: Watching
    reload: Reload | None
    shared: Shared | None
    metrics: Metrics
    dependencies: Dependencies
    siblings: Siblings
    tracer: Tracer | None


def lifespan(parts: Parts) -> Callable[[Any], AbstractAsyncContextManager[None]]:
    """What opens the parts before the first request and closes them after the last."""

    @asynccontextmanager
    async def opened() -> AsyncIterator[None]:
        await parts.identities.begin(parts.engine)
        await parts.ledger.create_schema()
        # Before the first request: what is revoked must not come in meanwhile.
        await upkeep.once(parts.identities.upkeep)
        async with parts.upstream, parts.watching, parts.siblings:
            tasks = [asyncio.create_task(parts.ledger.run()), asyncio.create_task(upkeep.run(parts.identities.upkeep))]
            if parts.shared is not None:
                tasks.append(asyncio.create_task(parts.shared.run()))
            endless = (parts.alerts, parts.metrics, parts.dependencies)
            tasks.extend(asyncio.create_task(part.run()) for part in endless)
            if parts.reload is not None:
                tasks.append(asyncio.create_task(parts.reload.run()))
            yield
            for task in tasks:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
        await _close(parts)

    @asynccontextmanager
    async def traced(_: Any) -> AsyncIterator[None]:
        # Around all else: at the end it may wait for a collector.
        async with parts.tracer or nullcontext(), opened():
            yield

    return traced


async def _close(parts: Parts) -> None:
    try:
        await parts.ledger.drain()
    except (AuthError, SQLAlchemyError, OSError) as error:
        log.warning("ledger_waits", reason=type(error).__name__)  # the next start drains what is left
    await parts.alerts.close()
    await upkeep.once(parts.identities.upkeep)  # when keys were used last
    if parts.identities.outside is not None:
        await parts.identities.outside.close()
    parts.journal.close()
    if parts.shared is not None:
        await parts.shared.close()
    await parts.engine.dispose()
