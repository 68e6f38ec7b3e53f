"""The application: builds every part from the settings once, and puts them together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Final

import structlog
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from auth import database
from auth.errors import AuthError
from gateway import browsers, errors, moderations, routes, upkeep
from gateway.administration import usage
from gateway.alerts import Alerts
from gateway.chat import Chat
from gateway.degraded import PARTS, Degraded
from gateway.errors import GatewayError, InvalidRequest, MethodNotAllowed, NotFound, Renderable
from gateway.estimates import Estimates
from gateway.guardrails.guards import Guards
from gateway.health import Health
from gateway.identities import Identities, identities
from gateway.journal import Journal
from gateway.judge import Judge
from gateway.ledger import Ledger, journal_folder
from gateway.limiting import quotas
from gateway.limits.checks import Check, Measure
from gateway.limits.shared import Shared, connect
from gateway.money import NANO
from gateway.reckoning import Reckoner
from gateway.reload import Reload
from gateway.routing import Catalogue
from gateway.settings import Settings
from gateway.stopping import Closing, Stopping
from gateway.telemetry import Metrics, Telemetry
from gateway.upstream import Upstream
from gateway.watching import Watching

log = structlog.get_logger()

_GUARDS_SECONDS: Final = 60  # for how long a guard that failed once is said to be degraded


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


def create_app(
    settings: Settings, read: Callable[[], Settings] | None = None, stopping: Stopping | None = None
) -> FastAPI:
    """The gateway for `settings`; raises BadSettings or auth.errors.BadConfiguration.

    At SIGHUP they are read again by `read`, if it is given. `stopping` says whether the process has been told to stop.
    """
    stopping = stopping or Stopping()
    settings.require_models()
    engine = database.engine(settings.state.database(), statement_s=settings.state.statement_seconds)
    metrics, catalogue, reckoner = Metrics(frozenset(settings.models)), Catalogue(settings), Reckoner(settings)
    degraded = _degraded(catalogue)
    known = identities(settings, engine, away=lambda gone: degraded.mark("keys", down=gone))
    journal = Journal(journal_folder(settings.state.directory))
    redis_url = settings.state.redis_url.get_secret_value() if settings.state.redis_url else None
    ledger = Ledger(engine, journal, lambda: catalogue.tariff, away=lambda gone: degraded.mark("ledger", down=gone))
    alerts = Alerts(engine, settings.alerts, lambda: catalogue.tariff.currency)
    limits = quotas(
        settings,
        ledger,
        connect(redis_url) if redis_url else None,
        told=partial(_alert, alerts),
        exhausted=partial(_alert, alerts, exhausted=True),
        away=lambda gone: degraded.mark("limits", down=gone),
    )
    shared = limits.limiter if isinstance(limits.limiter, Shared) else None
    upstream = Upstream(settings.times)
    watching = Watching(catalogue, upstream)

    async def replaced(now: Settings) -> None:
        limits.replace(now.limits)
        _show(metrics, catalogue)
        await watching.follow()

    reload = Reload(settings, read, catalogue, reckoner, replaced) if read else None
    parts = Parts(engine, known, ledger, journal, alerts, upstream, watching, reload, shared)
    _show(metrics, catalogue)
    metrics.watch_parts(PARTS, degraded.down)
    estimates = Estimates(
        reckoner,
        lambda: catalogue.tariff,
        seconds=settings.times.total,
        answer_tokens=lambda: limits.policy.answer_tokens,
    )
    guards, judge = _guards(settings, degraded), Judge(catalogue, upstream)
    chat = Chat(settings, catalogue, upstream, guards, judge, limits, estimates, reckoner, ledger, metrics.observe)

    app = FastAPI(title="Passerelle", lifespan=_lifespan(parts), docs_url=None, redoc_url=None)
    app.include_router(routes.v1(chat, known.access))
    app.include_router(moderations.router(chat, known.access))
    app.include_router(routes.probes(_health(settings, parts, catalogue, degraded, stopping), metrics))
    app.include_router(usage.router(engine, lambda: catalogue.tariff, known.access))
    for router in known.routers:
        app.include_router(router)
    routes.publish(app)
    browsers.allow(app, settings.server.cors_origins)
    app.add_middleware(Closing, stopping=stopping)
    app.add_middleware(Telemetry, metrics=metrics, failed=_rendered, told=degraded.header)
    return _answering(app)


def _answering(app: FastAPI) -> FastAPI:
    for exception in (GatewayError, AuthError, HTTPException, RequestValidationError):
        app.add_exception_handler(exception, _rendered)
    return app


def _health(settings: Settings, parts: Parts, catalogue: Catalogue, degraded: Degraded, stopping: Stopping) -> Health:
    return Health(
        parts.engine,
        catalogue,
        parts.upstream,
        degraded=degraded.down,
        stopping=lambda: stopping.begun,
        redis=settings.fail_policy.redis if parts.shared is not None else "none",
    )


def _guards(settings: Settings, degraded: Degraded) -> Guards:
    def failed(_: str) -> None:
        degraded.mark("guards", down=True, seconds=_GUARDS_SECONDS)

    return Guards(settings.guards, settings.fail_policy, failed)


def _degraded(catalogue: Catalogue) -> Degraded:
    made = Degraded()
    made.watch("metrics", lambda: any(pool.blind() for pool in catalogue.pools.values()))
    return made


def _alert(alerts: Alerts, check: Check, spent: int, *, exhausted: bool = False) -> None:
    """Tell of a budget; money is counted in billionths."""
    used, limit = (
        (NANO * spent, NANO * check.limit) if check.measure is Measure.MONEY_PER_MONTH else (spent, check.limit)
    )
    alerts.spent(check.scope, check.name, check.measure, check.window, used, limit, exhausted=exhausted)


def _show(metrics: Metrics, catalogue: Catalogue) -> None:
    """Have the metrics show what the catalogue holds now."""
    metrics.follow(frozenset(catalogue.names()))
    for pool in catalogue.pools.values():
        metrics.watch_queue(pool.name, pool.admission)
        for replica in pool.replicas:
            metrics.watch(pool.name, replica.index, replica.breaker.state)
            if pool.probed:
                metrics.watch_probes(pool.name, replica.index, replica.breaker.down)


def _lifespan(parts: Parts) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await parts.identities.begin(parts.engine)
        await parts.ledger.create_schema()
        # Before the first request: what is revoked must not come in meanwhile.
        await upkeep.once(parts.identities.upkeep)
        async with parts.upstream, parts.watching:
            tasks = [asyncio.create_task(parts.ledger.run()), asyncio.create_task(upkeep.run(parts.identities.upkeep))]
            if parts.shared is not None:
                tasks.append(asyncio.create_task(parts.shared.run()))
            tasks.append(asyncio.create_task(parts.alerts.run()))
            if parts.reload is not None:
                tasks.append(asyncio.create_task(parts.reload.run()))
            yield
            for task in tasks:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
        await _close(parts)

    return lifespan


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


async def _rendered(http: Request, error: Exception) -> Response:
    status, headers, body = errors.render(_known(error, http))
    return Response(body, status, headers)


def _known(error: Exception, http: Request) -> Renderable:
    """Every exception as one that can be rendered; a stranger's is logged and told as a plain 500."""
    if isinstance(error, GatewayError | AuthError):
        return error
    if isinstance(error, RequestValidationError):
        first = error.errors()[0]
        name = next(str(place) for place in reversed(first["loc"]) if isinstance(place, str))
        return InvalidRequest(f"{name} is not valid: {first['msg'][0].lower()}{first['msg'][1:]}.", param=name)
    if isinstance(error, HTTPException) and error.status_code == 404:
        return NotFound(f"There is nothing at {http.url.path[:200]}.")
    if isinstance(error, HTTPException) and error.status_code == 405:
        return MethodNotAllowed(f"{http.method} is not possible here.", headers={"allow": routes.allowed(http)})
    if isinstance(error, HTTPException):
        refused = InvalidRequest("The request cannot be served.")
        refused.status = error.status_code
        return refused
    log.error("internal_error", request_id=http.scope["passerelle"].request_id, path=http.url.path, exc_info=error)
    return GatewayError("Something went wrong on our side; it has been logged under this request's id.")
