"""The application: builds every part from the settings once, and puts them together."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

import structlog
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.telemetry import TelemetryConfig
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from auth import database
from auth.errors import AuthError
from gateway import browsers, errors, metrics_folder, moderations, routes
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
from gateway.identities import identities
from gateway.journal import Journal
from gateway.judge import Judge
from gateway.lane import Gateway
from gateway.ledger import Ledger, journal_folder
from gateway.limiting import quotas
from gateway.limits.checks import Check, Measure
from gateway.limits.quotas import Quotas
from gateway.metrics import Metrics
from gateway.money import NANO
from gateway.reckoning import Reckoner
from gateway.reload import Reload
from gateway.routing import Catalogue
from gateway.running import Parts, lifespan
from gateway.settings import Settings, State
from gateway.siblings import Siblings
from gateway.status.worker import Statuses
from gateway.stopping import Closing, Stopping
from gateway.telemetry import Telemetry
from gateway.trace_settings import Tracing
from gateway.upstream import Upstream
from gateway.watching import Watching

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from gateway.limits.shared import Shared
    from gateway.tracing import Tracer

log = structlog.get_logger()

# FastAPI's own traces and logs hold what callers sent, and a variable of the environment could switch them on.
_NO_TELEMETRY: Final[TelemetryConfig] = {"tracing": False, "metrics": False, "logs": False, "auto_configure": False}
_GUARDS_SECONDS: Final = 60  # for how long a guard that failed once is said to be degraded


def create_app(
    settings: Settings,
    read: Callable[[], Settings] | None = None,
    stopping: Stopping | None = None,
    write: Callable[[str, list[dict[str, Any]]], None] | None = None,
) -> FastAPI:
    """The gateway for `settings`; raises BadSettings or auth.errors.BadConfiguration.

    At SIGHUP they are read again by `read`, if it is given. `stopping` says whether the process has been told to stop. `write`
    takes the lines of requests, see `Telemetry`.
    """
    stopping = stopping or Stopping()
    settings.require_models()
    engine = database.engine(settings.state.database(), statement_s=settings.state.statement_seconds)
    metrics, catalogue, reckoner = Metrics(metrics_folder.shared()), Catalogue(settings), Reckoner(settings)
    counts = metrics.counts
    degraded = _degraded(catalogue)
    known = identities(settings, engine, away=lambda gone: degraded.mark("keys", down=gone))
    journal = Journal(journal_folder(settings.state.directory))
    redis = _redis(settings.state)
    ledger = _ledger(engine, journal, catalogue, degraded, counts)
    alerts = Alerts(engine, settings.alerts, lambda: catalogue.tariff.currency)
    limits = _limits(settings, ledger, redis, alerts, degraded)
    shared = None if redis is None else cast("Shared", limits.limiter)
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
    estimates = _estimates(settings, reckoner, catalogue, limits)
    guards, judge = _guards(settings, degraded, Heard(counts.sentence, counts.hidden)), Judge(catalogue, upstream)
    chat = Chat(settings, catalogue, upstream, guards, judge, limits, estimates, reckoner, ledger, counts.observe)

    app = Gateway(title="Passerelle", lifespan=lifespan(parts), docs_url=None, redoc_url=None, telemetry=_NO_TELEMETRY)
    app.include_router(routes.v1(chat, known.access))
    app.include_router(moderations.router(chat, known.access))
    health = _health(settings, parts, catalogue, degraded, stopping)
    app.include_router(routes.probes(health, metrics, settings.server.metrics_token))
    app.include_router(usage.router(engine, lambda: catalogue.tariff, known.access))
    statuses = Statuses(catalogue, chat.live, limits, siblings, degraded.down)
    app.include_router(status.router(statuses, known.access))
    for router in known.routers:
        app.include_router(router)
    routes.publish(app)
    app.shorten(routes.short(chat, known.access), _rendered)
    browsers.allow(app, settings.server.cors_origins)
    _within(app, stopping, tracer, metrics=metrics, failed=_rendered, told=degraded.header, write=write)
    return _answering(app)


def _within(app: FastAPI, stopping: Stopping, tracer: Tracer | None, **telemetry: Any) -> None:
    app.add_middleware(Closing, stopping=stopping)
    app.add_middleware(Telemetry, **telemetry)
    if tracer is not None:
        app.add_middleware(tracer.around)  # the telemetry's line is written inside its span


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


def _estimates(settings: Settings, reckoner: Reckoner, catalogue: Catalogue, limits: Quotas) -> Estimates:
    return Estimates(
        reckoner,
        lambda: catalogue.tariff,
        seconds=settings.times.total,
        answer_tokens=lambda: limits.policy.answer_tokens,
    )


def _watch(metrics: Metrics, degraded: Degraded, needed: Dependencies, journal: Journal) -> None:
    metrics.watch_parts(PARTS, degraded.down)
    metrics.watch_dependencies(needed.names, needed.up)
    metrics.watch_journal(journal.size, journal.age)


def _redis(state: State) -> Redis | None:
    if state.redis_url is None:
        return None
    from gateway.limits.shared import (
        connect,
    )  # and with it Redis's client: 8 MB that a gateway without it does not need

    return connect(state.redis_url.get_secret_value())


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
