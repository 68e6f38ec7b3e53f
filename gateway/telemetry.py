"""What an operator sees: a request id everywhere, one log line a request, and metrics with bounded labels.

Pure ASGI: behind Starlette's `BaseHTTPMiddleware` a client's disconnect is never seen. Neither prompts nor tokens nor keys
are ever given to the log.
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any, Protocol

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from auth import Principal
from gateway.exchange import Exchange

log = structlog.get_logger()

# For browsers: this server gives data, never pages (OWASP REST Security Cheat Sheet, "Security headers").
SAFE_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
)
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60, 120, 300)


class Trace:
    """What the telemetry knows of one HTTP request."""

    def __init__(self, request_id: str) -> None:
        self.request_id = request_id
        self.exchange: Exchange | None = None
        self._caller: dict[str, str] = {}

    def know(self, principal: Principal) -> None:
        """Put the caller on the log line."""
        self._caller = {"tenant": principal.tenant, "subject": principal.subject}

    def fields(self) -> dict[str, Any]:
        """What the log line says beyond the HTTP request: the caller, and the outcome of a chat."""
        exchange = self.exchange
        if exchange is None:
            return dict(self._caller)
        last = exchange.attempts[-1] if exchange.attempts else None
        return dict(
            self._caller,
            model=exchange.model,
            target=exchange.served_by,
            state=exchange.state.value,
            repairs=exchange.repairs,
            guards=exchange.verdicts(),
            replica=last.replica if last else None,
            prompt_tokens=last.prompt_tokens if last else 0,
            completion_tokens=last.completion_tokens if last else 0,
            error=exchange.error,
            lost=[f"{attempt.target}: {attempt.reason}" for attempt in exchange.attempts if attempt.reason],
        )


class Queue(Protocol):
    """What is shown of a target's places: requests that have one, and requests that wait for one."""

    under_way: int
    waiting: int


class Metrics:
    """The gateway's own metrics, in a registry of their own. Labels are bounded by the configuration."""

    def __init__(self, models: frozenset[str]) -> None:
        """`models`: the published names; any other name a caller sends is counted as `unknown`."""
        self._known = models
        self.registry = CollectorRegistry()
        labels = ["model", "target", "state"]
        self._chats = Counter("passerelle_chats", "Chat completions by outcome.", labels, registry=self.registry)
        self._tokens = Counter("passerelle_tokens", "Tokens, by kind.", ["model", "kind"], registry=self.registry)
        self._repairs = Counter(
            "passerelle_repairs", "Answers asked again for not being French.", ["model"], registry=self.registry
        )
        self._seconds = Histogram(
            "passerelle_chat_seconds",
            "Time from request to last byte.",
            ["model"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._first = Histogram(
            "passerelle_first_text_seconds",
            "Time to the first text.",
            ["model"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.in_flight = Gauge("passerelle_requests_in_flight", "Requests under way.", registry=self.registry)

        self._replicas = Gauge(
            "passerelle_replica_state",
            "The breaker of a replica: 0 closed, 1 on trial, 2 open.",
            ["target", "replica"],
            registry=self.registry,
        )
        self._down = Gauge(
            "passerelle_replica_down",
            "1 while the probes of a replica fail.",
            ["target", "replica"],
            registry=self.registry,
        )

        self._waiting = Gauge(
            "passerelle_queue_waiting",
            "Requests that wait for a place at a target.",
            ["target"],
            registry=self.registry,
        )
        self._under_way = Gauge(
            "passerelle_target_in_flight", "Requests that have a place at a target.", ["target"], registry=self.registry
        )

    def watch_parts(self, parts: Iterable[str], down: Callable[[Any], bool]) -> None:
        """Show which parts work without what they depend on, asked for at each scrape."""
        gauge = Gauge(
            "passerelle_degraded",
            "1 while a part works without what it depends on (docs/robustness.md).",
            ["part"],
            registry=self.registry,
        )
        for part in parts:
            gauge.labels(part).set_function(partial(down, part))

    def watch_queue(self, target: str, queue: Queue) -> None:
        """Show how many requests a target has and how many wait for it, asked for at each scrape."""
        self._waiting.labels(target).set_function(lambda: queue.waiting)
        self._under_way.labels(target).set_function(lambda: queue.under_way)

    def watch(self, target: str, replica: int, state: Callable[[], int]) -> None:
        """Show a replica's state, asked for at each scrape."""
        self._replicas.labels(target, str(replica)).set_function(state)

    def watch_probes(self, target: str, replica: int, down: Callable[[], bool]) -> None:
        """Show whether a replica's probes fail, asked for at each scrape."""
        self._down.labels(target, str(replica)).set_function(down)

    def follow(self, models: frozenset[str]) -> None:
        """Go on with other published names, and without any target until it is watched."""
        self._known = models
        for gauge in (self._replicas, self._down, self._waiting, self._under_way):
            gauge.clear()

    def observe(self, exchange: Exchange) -> None:
        """Count an exchange that has ended."""
        model = exchange.model if exchange.model in self._known else "unknown"
        self._chats.labels(model, exchange.served_by or "none", exchange.state.value).inc()
        self._repairs.labels(model).inc(exchange.repairs)
        for attempt in exchange.attempts:
            self._tokens.labels(model, "prompt").inc(attempt.prompt_tokens)
            self._tokens.labels(model, "completion").inc(attempt.completion_tokens)
        if exchange.ended is not None:
            self._seconds.labels(model).observe(exchange.ended - exchange.started)
        if exchange.first_text is not None:
            self._first.labels(model).observe(exchange.first_text - exchange.started)

    def render(self) -> bytes:
        """The text format of Prometheus, version 0.0.4."""
        return generate_latest(self.registry)


class Telemetry:
    """ASGI middleware: gives each request its id and its log line."""

    def __init__(
        self,
        app: ASGIApp,
        metrics: Metrics,
        failed: Callable[[Request, Exception], Awaitable[Response]] | None = None,
        told: Callable[[], dict[str, str]] = dict,
    ) -> None:
        """`failed` gives the answer to a request that ended in an exception before one had begun.

        `told` gives headers that every answer below /v1 has, by their names in small letters.
        """
        self._app, self._metrics, self._failed, self._told = app, metrics, failed, told

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Wrap one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        trace = scope["passerelle"] = Trace(_request_id(scope))
        started, status = time.monotonic(), 0

        async def stamped(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                own = (b"x-request-id", trace.request_id.encode())
                told = self._told() if scope["path"].startswith("/v1/") else {}
                more = [(name.encode(), value.encode()) for name, value in told.items()]
                message["headers"] = [*message["headers"], own, *more, *SAFE_HEADERS]
            await send(message)

        self._metrics.in_flight.inc()
        try:
            await self._app(scope, receive, stamped)
        except Exception as error:  # Starlette would answer it further out, where the request has no id
            if self._failed is not None and not status:
                await (await self._failed(Request(scope), error))(scope, receive, stamped)
            raise
        finally:
            self._metrics.in_flight.dec()
            seconds = round(time.monotonic() - started, 6)
            fields = {
                "method": scope["method"],
                "path": scope["path"],
                "status": status,
                "seconds": seconds,
                **trace.fields(),
            }
            log.info("request", request_id=trace.request_id, **fields)


def _request_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            text: str = value.decode("latin-1")
            return text if _REQUEST_ID.fullmatch(text) else _new_id()
    return _new_id()


def _new_id() -> str:
    return f"req_{uuid.uuid4().hex}"
