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

    def know(self, principal: Principal) -> None:
        """Put the caller on the log line."""
        self._caller = {"tenant": principal.tenant, "subject": principal.subject}

    def refused(self, error: Renderable) -> None:
        """The request is answered with an error."""
        self._error, self._limit = error.code or error.type, getattr(error, "limit", None)

    def counted(self, metrics: Metrics, scope: Scope, status: int) -> None:
        """Put the request, which has ended, into the metrics."""
        error = self._error or (self.exchange.error if self.exchange is not None else None)
        route: str = getattr(scope.get("route"), "path", "none")
        metrics.counts.answered(route, scope["method"], status, error, self._limit)

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
            trace.counted(self._metrics, scope, status)
            log.info(
                "request",
                request_id=trace.request_id,
                method=scope["method"],
                path=scope["path"],
                status=status,
                seconds=round(time.monotonic() - started, 6),
                **trace.fields(),
            )


def _request_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            text: str = value.decode("latin-1")
            return text if _REQUEST_ID.fullmatch(text) else _new_id()
    return _new_id()


def _new_id() -> str:
    return f"req_{ids.new()}"
