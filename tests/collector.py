"""A small OpenTelemetry collector on a loopback port: OTLP over HTTP, protobuf (OTLP specification, "OTLP/HTTP")."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span as Sent


@dataclass(frozen=True)
class Span:
    """A span as it was sent. Ids as hexadecimal text; `events` are names with their attributes; times in nanoseconds."""

    service: str
    name: str
    kind: str
    trace: str
    id: str
    parent: str
    failed: bool
    attributes: dict[str, Any]
    events: list[tuple[str, dict[str, Any]]]
    began: int
    ended: int


@dataclass
class Collector:
    """What was sent so far. `status` is what it answers; while `open` is not set it answers nothing."""

    url: str = ""
    spans: list[Span] = field(default_factory=list)
    received: bytes = b""
    requests: int = 0
    status: int = 200
    open: asyncio.Event = field(default_factory=asyncio.Event)
    _more: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def take(self, request: web.Request) -> web.Response:
        """One export."""
        self.requests += 1
        body = await request.read()
        await self.open.wait()
        if self.status == 200:
            self.received += body
            async with self._more:
                self.spans += _spans(body)
                self._more.notify_all()
        return web.Response(status=self.status, content_type="application/x-protobuf")

    def named(self, *names: str) -> list[Span]:
        """The spans of these names, in the order of their beginnings."""
        return sorted((span for span in self.spans if span.name in names), key=lambda span: span.began)

    def only(self, name: str) -> Span:
        """The one span of this name."""
        (span,) = self.named(name)
        return span

    async def has(self, name: str, parent: str | None = None, seconds: float = 30) -> Span:
        """Wait for a span of this name, of any parent unless told which."""

        def found() -> list[Span]:
            return [span for span in self.named(name) if parent in (None, span.parent)]

        async with asyncio.timeout(seconds), self._more:
            await self._more.wait_for(found)
        return found()[0]


@asynccontextmanager
async def collector(port: int = 0) -> AsyncIterator[Collector]:
    """A running one, on any port unless told which."""
    made = Collector()
    made.open.set()
    app = web.Application(client_max_size=1 << 26)
    app.router.add_post("/v1/traces", made.take)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port)
    await site.start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield made
    finally:
        made.open.set()
        await runner.cleanup()


def _spans(body: bytes) -> list[Span]:
    sent = ExportTraceServiceRequest.FromString(body)
    return [
        _span(str(_attributes(resource.resource.attributes).get("service.name")), span)
        for resource in sent.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


def _span(service: str, span: Sent) -> Span:
    return Span(
        service,
        span.name,
        Sent.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_").lower(),
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        span.status.code == 2,  # STATUS_CODE_ERROR
        _attributes(span.attributes),
        [(event.name, _attributes(event.attributes)) for event in span.events],
        span.start_time_unix_nano,
        span.end_time_unix_nano,
    )


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: _value(pair) for pair in pairs}


def _value(pair: KeyValue) -> Any:
    value: AnyValue = pair.value
    kind = value.WhichOneof("value")
    return getattr(value, kind) if kind else None
