"""The application: builds every part from the settings once, and puts them together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

import structlog
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.telemetry import TelemetryConfig
from redis.asyncio import Redis
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from auth import database
from auth.errors import AuthError
from gateway import browsers, errors, moderations, multiprocess, routes, upkeep
from gateway.administration import status, usage
from gateway.alerts import Alerts
from gateway.chat import Chat
from gateway.counts import Counts
from gateway.degraded import PARTS, Degraded
from gateway.dependencies import Dependencies
from gateway.errors import GatewayError, InvalidRequest, MethodNotAllowed, NotFound, Renderable
from gateway.estimates import Estimates
from gateway.guardrails.guards import Guards, Heard
from gateway.health import Health
from gateway.identities import Identities, identities
from gateway.journal import Journal
from gateway.judge import Judge
from gateway.ledger import Ledger, journal_folder
from gateway.limiting import quotas
from gateway.limits.checks import Check, Measure
from gateway.limits.quotas import Quotas
from gateway.limits.shared import Shared, connect
from gateway.logs import configure_logging, log_the_unforeseen
from gateway.metrics import Metrics
from gateway.money import NANO
from gateway.reckoning import Reckoner
from gateway.reload import Reload
from gateway.routing import Catalogue
from gateway.settings import Settings
from gateway.settings import load as load_settings
from gateway.siblings import Siblings
from gateway.status.worker import Statuses
from gateway.telemetry import Telemetry
from gateway.trace_settings import Tracing
from gateway.upstream import Upstream
from gateway.watching import Watching

if TYPE_CHECKING:
    from gateway.tracing import Tracer

log = structlog.get_logger()

# FastAPI's own traces and logs hold what callers sent, and a variable of the environment could switch them on.
_NO_TELEMETRY: Final[TelemetryConfig] = {"tracing": False, "metrics": False, "logs": False, "auto_configure": False}
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
    metrics: Metrics
    dependencies: Dependencies
    siblings: Siblings
    tracer: Tracer | None


def create_app(settings: Settings, read: Callable[[], Settings] | None = None) -> FastAPI:
    """The gateway for `settings`; raises BadSettings or auth.errors.BadConfiguration.

    At SIGHUP they are read again by `read`, if it is given.
    """
    settings.require_models()
    engine = database.engine(settings.state.database(), statement_s=settings.state.statement_seconds)
    metrics, catalogue, reckoner = Metrics(multiprocess.shared()), Catalogue(settings), Reckoner(settings)
    counts = metrics.counts
    degraded = _degraded(catalogue)
    known = identities(settings, engine, away=lambda gone: degraded.mark("keys", down=gone))
    journal = Journal(journal_folder(settings.state.directory))
    redis_url = settings.state.redis_url.get_secret_value() if settings.state.redis_url else None
    redis = connect(redis_url) if redis_url else None
    ledger = _ledger(engine, journal, catalogue, degraded, counts)
    alerts = Alerts(engine, settings.alerts, lambda: catalogue.tariff.currency)
    limits = _limits(settings, ledger, redis, alerts, degraded)
    shared = limits.limiter if isinstance(limits.limiter, Shared) else None
    upstream = Upstream(settings.times)
    watching = Watching(catalogue, upstream)

    async def replaced(now: Settings) -> None:
        limits.replace(now.limits)
        _show(metrics, catalogue)
        await watching.follow()

    siblings = Siblings(settings.state.directory)
    reload = Reload(settings, read, catalogue, reckoner, replaced, metrics.reloaded) if read else None
    needed = Dependencies(engine, redis)
    tracer = _tracer(settings.tracing)
    parts = Parts(
        engine, known, ledger, journal, alerts, upstream, watching, reload, shared, metrics, needed, siblings, tracer
    )
    _show(metrics, catalogue)
    _watch(metrics, degraded, needed, journal)
    estimates = Estimates(
        reckoner,
        lambda: catalogue.tariff,
        seconds=settings.times.total,
        answer_tokens=lambda: limits.policy.answer_tokens,
    )
    guards, judge = _guards(settings, degraded, Heard(counts.sentence, counts.hidden)), Judge(catalogue, upstream)
    chat = Chat(settings, catalogue, upstream, guards, judge, limits, estimates, reckoner, ledger, counts.observe)

    app = FastAPI(title="Passerelle", lifespan=_lifespan(parts), docs_url=None, redoc_url=None, telemetry=_NO_TELEMETRY)
    app.include_router(routes.v1(chat, known.access))
    app.include_router(moderations.router(chat, known.access))
    health = Health(engine, catalogue, upstream, degraded=degraded.down)
    app.include_router(routes.probes(health, metrics, settings.server.metrics_token))
    app.include_router(usage.router(engine, lambda: catalogue.tariff, known.access))
    statuses = Statuses(catalogue, chat.live, limits, siblings, degraded.down)
    app.include_router(status.router(statuses, known.access))
    for router in known.routers:
        app.include_router(router)
    routes.publish(app)
    browsers.allow(app, settings.server.cors_origins)
    app.add_middleware(Telemetry, metrics=metrics, failed=_rendered, told=degraded.header)
    if tracer is not None:
        app.add_middleware(tracer.around)  # the telemetry's line is written inside its span
    return _answering(app)


def _answering(app: FastAPI) -> FastAPI:
    for exception in (GatewayError, AuthError, HTTPException, RequestValidationError):
        app.add_exception_handler(exception, _rendered)
    return app


def from_environment() -> FastAPI:
    """The factory uvicorn's workers call; `PASSERELLE_CONFIG` names the configuration file."""
    configure_logging()
    log_the_unforeseen()
    return create_app(load_settings(), load_settings)


def _ledger(engine: AsyncEngine, journal: Journal, catalogue: Catalogue, degraded: Degraded, counts: Counts) -> Ledger:
    return Ledger(
        engine,
        journal,
        lambda: catalogue.tariff,
        away=lambda gone: degraded.mark("ledger", down=gone),
        written=counts.written,
        drained=counts.drained,
    )


def _limits(settings: Settings, ledger: Ledger, redis: Redis | None, alerts: Alerts, degraded: Degraded) -> Quotas:
    return quotas(
        settings,
        ledger,
        redis,
        told=partial(_alert, alerts),
        exhausted=partial(_alert, alerts, exhausted=True),
        away=lambda gone: degraded.mark("limits", down=gone),
    )


def _watch(metrics: Metrics, degraded: Degraded, needed: Dependencies, journal: Journal) -> None:
    metrics.watch_parts(PARTS, degraded.down)
    metrics.watch_dependencies(needed.names, needed.up)
    metrics.watch_journal(journal.size, journal.age)


def _tracer(settings: Tracing) -> Tracer | None:
    if settings.endpoint is None:
        return None
    from gateway.tracing import Tracer  # and with it OpenTelemetry's SDK, which costs a gateway without traces nothing

    return Tracer(settings)


def _guards(settings: Settings, degraded: Degraded, heard: Heard) -> Guards:
    def failed(_: str) -> None:
        degraded.mark("guards", down=True, seconds=_GUARDS_SECONDS)

    return Guards(settings.guards, settings.fail_policy, failed, heard)


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
    first = {name: catalogue.targets(name, may_leave=True)[0].name for name in catalogue.names()}
    metrics.follow(first, [pool.name for pool in catalogue.pools.values() if pool.target.outside])
    for pool in catalogue.pools.values():
        metrics.watch_queue(pool.name, pool)
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
    async def traced(app: FastAPI) -> AsyncIterator[None]:
        # Around all else: at the end it may wait for a collector.
        async with parts.tracer or nullcontext(), lifespan(app):
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


async def _rendered(http: Request, error: Exception) -> Response:
    known = _known(error, http)
    http.scope["passerelle"].refused(known)
    status, headers, body = errors.render(known)
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
