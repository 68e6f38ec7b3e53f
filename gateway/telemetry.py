"""What an operator sees of each request: its id everywhere, one log line, and its place in the metrics.

Pure ASGI: behind Starlette's `BaseHTTPMiddleware` a client's disconnect is never seen. Neither prompts nor tokens nor keys
are ever given to the log.
"""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from auth import Principal
from gateway import ids
from gateway.batch import Batch
from gateway.errors import Renderable
from gateway.exchange import Exchange
from gateway.metrics import Metrics

log = structlog.get_logger()

# For browsers: this server gives data, never pages (OWASP REST Security Cheat Sheet, "Security headers").
SAFE_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
)
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")


class Trace:
    """What the telemetry knows of one HTTP request."""

    def __init__(self, request_id: str) -> None:
        self.request_id = request_id
        self.exchange: Exchange | None = None
        self._error: str | None = None
        self._limit: tuple[str, str] | None = None
        self._caller: dict[str, str] = {}
        self._scope: Scope = {}
        self._status, self._seconds = 0, 0.0
        self._context: dict[str, Any] = {}

    def ended(self, scope: Scope, status: int, seconds: float) -> None:
        """The request has ended; what is bound to the log's context now belongs to its line."""
        self._scope, self._status, self._seconds = scope, status, seconds
        self._context = structlog.contextvars.get_contextvars()

    def know(self, principal: Principal) -> None:
        """Put the caller on the log line."""
        self._caller = {"tenant": principal.tenant, "subject": principal.subject}

    def refused(self, error: Renderable) -> None:
        """The request is answered with an error."""
        self._error, self._limit = error.code or error.type, getattr(error, "limit", None)

    def counted(self, metrics: Metrics) -> None:
        """Put the request, which has ended, into the metrics."""
        error = self._error or (self.exchange.error if self.exchange is not None else None)
        route: str = getattr(self._scope.get("route"), "path", "none")
        metrics.counts.answered(route, self._scope["method"], self._status, error, self._limit)

    def line(self) -> dict[str, Any]:
        """The log line of the request, which has ended: the caller, and the outcome of a chat."""
        http = {
            **self._context,
            "request_id": self.request_id,
            "method": self._scope["method"],
            "path": self._scope["path"],
            "status": self._status,
            "seconds": round(self._seconds, 6),
            **self._caller,
        }
        exchange = self.exchange
        if exchange is None:
            return http
        last = exchange.attempts[-1] if exchange.attempts else None
        return {
            **http,
            "model": exchange.model,
            "target": exchange.served_by,
            "state": str(exchange.state),
            "repairs": exchange.repairs,
            "guards": exchange.verdicts(),
            "replica": last.replica if last else None,
            "prompt_tokens": last.prompt_tokens if last else 0,
            "completion_tokens": last.completion_tokens if last else 0,
            "error": exchange.error,
            "lost": [f"{attempt.target}: {attempt.reason}" for attempt in exchange.attempts if attempt.reason],
        }


class Telemetry:
    """ASGI middleware: gives each request its id and its log line."""

    def __init__(
        self,
        app: ASGIApp,
        metrics: Metrics,
        failed: Callable[[Request, Exception], Awaitable[Response]] | None = None,
        told: Callable[[], dict[str, str]] = dict,
        write: Callable[[str, list[dict[str, Any]]], None] | None = None,
    ) -> None:
        """`failed` gives the answer to a request that ended in an exception before one had begun.

        `told` gives headers that every answer below /v1 has, by their names in small letters. `write` takes an event and the
        fields of some lines, and adds what every line has.
        """
        self._app, self._metrics, self._failed, self._told = app, metrics, failed, told
        self._write = write or _logged
        self._ended = Batch(self._told_of)

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
            trace.ended(scope, status, time.monotonic() - started)
            self._ended.add(trace)

    def _told_of(self, ended: list[Trace]) -> None:
        lines = []
        for trace in ended:
            try:
                trace.counted(self._metrics)
                lines.append(trace.line())
            except Exception:  # what is wrong with one is not to lose the others
                log.exception("request_not_told", request_id=trace.request_id)
        self._write("request", lines)


def _logged(event: str, lines: list[dict[str, Any]]) -> None:
    for fields in lines:
        log.info(event, **fields)


def _request_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            text: str = value.decode("latin-1")
            return text if _REQUEST_ID.fullmatch(text) else _new_id()
    return _new_id()


def _new_id() -> str:
    return f"req_{ids.new()}"
