"""OpenTelemetry traces: one span a request, one below it for each step, sent to a collector from a thread of their own.

Only `app` imports this, and only where a collector is configured.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import logging
import random
import threading
import time
from collections.abc import Sequence
from typing import Final

import structlog
from opentelemetry import trace as otel
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import Decision, ParentBased, Sampler, SamplingResult
from opentelemetry.trace import Link, SpanKind, TraceState
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import Attributes
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.recorded import OPERATIONS, Recorded, Unrecorded, close, method
from gateway.trace_settings import Tracing

log = structlog.get_logger()

_LIBRARY: Final = "opentelemetry"  # what its loggers' names begin with
_QUIET_SECONDS: Final = 60
_BATCH: Final = 512
_EXPORT_MILLISECONDS: Final = 2000  # how often what waits is sent
# Asked every few seconds by machines: their spans would say nothing.
_PROBES: Final = frozenset({"/livez", "/readyz", "/metrics"})


class Tracer:
    """Makes the spans of requests, and sends them to the collector; `async with` begins and ends that."""

    def __init__(self, settings: Tracing, *, quiet_seconds: float = _QUIET_SECONDS) -> None:
        """`quiet_seconds` lie between two lines of the log that say what the sending has trouble with."""
        self._settings, self._seldom = settings, _Seldom(quiet_seconds)
        self._tracer: otel.Tracer = otel.NoOpTracer()
        self._exporter: OTLPSpanExporter | None = None
        self._provider: TracerProvider | None = None

    async def __aenter__(self) -> Tracer:
        settings, library = self._settings, logging.getLogger(_LIBRARY)
        library.handlers, library.propagate = [self._seldom], False
        about = {"service.name": settings.service_name, "service.version": importlib.metadata.version("passerelle")}
        self._provider = TracerProvider(_sampler(settings), Resource.create(about), shutdown_on_exit=False)
        self._exporter = OTLPSpanExporter(settings.address(), timeout=settings.timeout_seconds)
        batch = min(_BATCH, settings.queue)
        self._provider.add_span_processor(
            BatchSpanProcessor(self._exporter, settings.queue, _EXPORT_MILLISECONDS, batch)
        )
        self._tracer = self._provider.get_tracer("passerelle")
        return self

    async def __aexit__(self, *_: object) -> None:
        """Send what waits, for as long as one export may take."""
        if self._provider is None or self._exporter is None:
            return
        # Not in asyncio's own threads, which a process waits for when it ends: this one may hang as long as a collector does.
        ending = threading.Thread(target=self._provider.shutdown, name="last-spans", daemon=True)
        ending.start()
        await asyncio.to_thread(ending.join, self._settings.timeout_seconds)
        library = logging.getLogger(_LIBRARY)
        if ending.is_alive():
            library.setLevel(logging.CRITICAL)
            self._exporter.shutdown()  # type: ignore[no-untyped-call]  # it tries no more
            log.warning("traces_lost", reason="the collector did not take the last spans in time")
        self._seldom.tell_rest()
        library.handlers, library.propagate = [], True

    def around(self, app: ASGIApp) -> ASGIApp:
        """The middleware that gives each request its span."""
        return _Traced(app, self)

    def request(self, scope: Scope) -> Recorded:
        """Begin the span of a request."""
        carrier: dict[str, str] = {}
        names = (b"traceparent", b"tracestate") if self._settings.trust_callers else (b"traceparent",)
        for name, value in scope["headers"]:
            if name in names:
                carrier.setdefault(name.decode(), value.decode("latin-1"))
        above = TraceContextTextMapPropagator().extract(carrier, Context())
        span = self._tracer.start_span(method(scope), above, SpanKind.SERVER)
        operation = OPERATIONS.get(scope["path"])
        return Recorded(self._tracer, span, operation, outside=self._settings.tell_outside)


class _Traced:
    """ASGI middleware, around the one that writes the log line of a request."""

    def __init__(self, app: ASGIApp, tracer: Tracer) -> None:
        self._app, self._tracer = app, tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in _PROBES:
            await self._app(scope, receive, send)
            return
        span = self._tracer.request(scope)
        if not span.span.is_recording():
            scope["passerelle.span"] = Unrecorded(span)
            await self._app(scope, receive, send)
            return
        scope["passerelle.span"], status, broken = span, 0, None

        async def seen(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        with structlog.contextvars.bound_contextvars(**span.ids()):
            try:
                await self._app(scope, receive, seen)
            except Exception as error:
                broken = type(error).__name__
                raise
            finally:
                close(span, scope, status, broken)


class _Chance(Sampler):
    """Each request by chance. The usual sampler goes by the trace id, which is a caller's to choose."""

    def __init__(self, ratio: float) -> None:
        self._ratio = ratio

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        recorded = random.random() < self._ratio  # noqa: S311  # no secret
        above = otel.get_current_span(parent_context).get_span_context().trace_state
        return SamplingResult(Decision.RECORD_AND_SAMPLE if recorded else Decision.DROP, None, above)

    def get_description(self) -> str:
        return f"Chance({self._ratio})"


class _Seldom(logging.Handler):
    """What the library says, once in a while: a collector that is away must not fill the log."""

    def __init__(self, seconds: float) -> None:
        super().__init__(logging.WARNING)
        self._seconds, self._next, self._left_out = seconds, 0.0, 0

    def emit(self, record: logging.LogRecord) -> None:
        """Pass on a line, if it is time for one; and how many were left out since the last."""
        now = time.monotonic()
        if now < self._next:
            self._left_out += 1
            return
        self._next, left_out, self._left_out = now + self._seconds, self._left_out, 0
        log.warning("traces_in_trouble", reason=record.getMessage()[:500], left_out=left_out)

    def tell_rest(self) -> None:
        """Say how many lines were left out since the last one."""
        if self._left_out:
            log.warning("traces_in_trouble", reason="more of the same", left_out=self._left_out)
            self._left_out = 0


def _sampler(settings: Tracing) -> Sampler:
    chance = _Chance(settings.ratio)
    if settings.trust_callers:
        return ParentBased(root=chance)
    return ParentBased(root=chance, remote_parent_sampled=chance, remote_parent_not_sampled=chance)
