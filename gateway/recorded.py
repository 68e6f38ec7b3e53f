"""Spans that OpenTelemetry records: what is written into them, and nothing else is.

Names follow OpenTelemetry's semantic conventions for HTTP servers and for generative AI; what they have no name for begins with
`passerelle.`. A span says what the log line of its request says, but for the user. Texts and keys are in neither.
"""

from __future__ import annotations

import time
from typing import Any, Final

from opentelemetry import trace as otel
from opentelemetry.context import Context
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.types import Scope

from gateway.exchange import Attempt, Exchange, Outcome, State
from gateway.spans import Span

_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"})
OPERATIONS: Final = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "text_completion",
    "/v1/embeddings": "embeddings",
}


class Recorded(Span):
    """A step that is recorded. `call` gives one that is closed with what became of it."""

    __slots__ = ("_context", "_outside", "_tracer", "operation", "span")

    def __init__(self, tracer: otel.Tracer, span: otel.Span, operation: str | None, *, outside: bool) -> None:
        """`operation` is what the conventions call the request's; `outside`: targets that are outside are told ids too."""
        self._tracer, self.span, self.operation, self._outside = tracer, span, operation, outside
        self._context = otel.set_span_in_context(span, Context())

    def step(self, name: str) -> Recorded:
        """Begin a step inside this one."""
        span = self._tracer.start_span(name, self._context)
        return Recorded(self._tracer, span, self.operation, outside=self._outside)

    def call(self, name: str) -> Call:
        """Begin the asking of a model server."""
        span = self._tracer.start_span(f"{self.operation or 'ask'} {name}", self._context, SpanKind.CLIENT)
        return Call(self._tracer, span, self.operation, outside=self._outside)

    def event(self, name: str) -> None:
        """Something happened now."""
        self.span.add_event(name)

    def headers(self, *, outside: bool) -> dict[str, str]:
        """The W3C trace context of this step; none for outside targets, unless they may be told."""
        told: dict[str, str] = {}
        if self._outside or not outside:
            TraceContextTextMapPropagator().inject(told, self._context)
        return told

    def stop(self) -> None:
        """The step has ended."""
        self.span.end()

    def ids(self) -> dict[str, str]:
        """What joins a line of the log to this span."""
        context = self.span.get_span_context()
        return {"trace_id": otel.format_trace_id(context.trace_id), "span_id": otel.format_span_id(context.span_id)}


class Call(Recorded):
    """A model server is asked. What became of it is known for good only when the request has ended."""

    __slots__ = ("_asked", "_begun", "ended")

    def __init__(self, tracer: otel.Tracer, span: otel.Span, operation: str | None, *, outside: bool) -> None:
        super().__init__(tracer, span, operation, outside=outside)
        self._asked, self._begun = time.monotonic(), False
        self.ended: int | None = None

    def begun(self) -> None:
        """The server has begun to answer; for vLLM this is its first token."""
        if not self._begun:
            self._begun = True
            self.span.add_event("first_chunk")
            self.span.set_attribute("gen_ai.response.time_to_first_chunk", time.monotonic() - self._asked)

    def stop(self) -> None:
        """It has ended; `close` says how."""
        self.ended = time.time_ns()

    def close(self, attempt: Attempt) -> None:
        """Write down what became of it."""
        span, usage = self.span, attempt.usage_source != "none"
        span.set_attributes(
            _known(
                {
                    "gen_ai.operation.name": self.operation,
                    "gen_ai.provider.name": attempt.kind or None,
                    "gen_ai.request.model": attempt.model or None,
                    "gen_ai.usage.input_tokens": attempt.prompt_tokens if usage else None,
                    "gen_ai.usage.output_tokens": attempt.completion_tokens if usage else None,
                    "passerelle.target": attempt.target,
                    "passerelle.replica": attempt.replica,
                    "passerelle.firm": attempt.firm,
                    "passerelle.outcome": attempt.outcome.value,
                    "passerelle.reason": attempt.reason,
                    "passerelle.usage_source": attempt.usage_source,
                }
            )
        )
        # An answer that was cut in mid-stream counts as served, as some of it was; but the server has failed.
        if attempt.reason is not None and attempt.outcome is not Outcome.DRIFTED and not attempt.refused:
            span.set_attribute("error.type", attempt.reason)
            span.set_status(Status(StatusCode.ERROR, attempt.reason))
        span.end(self.ended)


class Unrecorded(Span):
    """A request that is not recorded: its trace goes on to the model servers, which then do not record it either."""

    __slots__ = ("_recorded",)

    def __init__(self, recorded: Recorded) -> None:
        self._recorded = recorded

    def headers(self, *, outside: bool) -> dict[str, str]:
        """The W3C trace context, its flag saying that nothing is recorded."""
        return self._recorded.headers(outside=outside)


def close(span: Recorded, scope: Scope, status: int, broken: str | None) -> None:
    """End the span of a request with what its log line says, but for the user."""
    told, route = scope.get("passerelle"), getattr(scope.get("route"), "path", None)
    exchange: Exchange | None = told.exchange if told is not None else None
    asked, otel_span = method(scope), span.span
    otel_span.update_name(f"{asked} {route}" if route else asked)
    facts: dict[str, Any] = {
        "http.request.method": asked if asked in _METHODS else "_OTHER",
        "http.route": route,
        "http.response.status_code": status or None,
        "url.scheme": scope.get("scheme"),
        "passerelle.request_id": told.request_id if told is not None else None,
    }
    if exchange is not None:
        facts |= _facts(exchange, span.operation)
        _close_calls(span, exchange)
    otel_span.set_attributes(_known(facts))
    truncated = exchange is not None and exchange.state is State.TRUNCATED
    if broken or status >= 500 or truncated:
        kind = broken or (exchange.error if exchange else None) or str(status)
        otel_span.set_attribute("error.type", kind)
        otel_span.set_status(Status(StatusCode.ERROR, kind))
    otel_span.end()


def _facts(exchange: Exchange, operation: str | None) -> dict[str, Any]:
    kept, _ = exchange.parts()
    served = kept if kept is not None and kept.outcome is Outcome.SERVED else None
    return {
        "gen_ai.operation.name": operation,
        "gen_ai.request.model": exchange.model if exchange.published else None,
        "gen_ai.request.stream": exchange.stream,
        "gen_ai.response.model": served.model or None if served else None,
        "gen_ai.usage.input_tokens": kept.prompt_tokens if kept else None,
        "gen_ai.usage.output_tokens": kept.completion_tokens if kept else None,
        "passerelle.tenant": exchange.tenant,
        "passerelle.state": exchange.state.value,
        "passerelle.target": exchange.served_by or None,
        "passerelle.repairs": exchange.repairs,
        "passerelle.guards": exchange.verdict_line() or None,
        "passerelle.blocked_by": exchange.blocked_by,
        "passerelle.error": exchange.error,
    }


def _close_calls(span: Recorded, exchange: Exchange) -> None:
    for attempt in exchange.attempts:
        if isinstance(attempt.span, Call):
            attempt.span.close(attempt)
            if attempt.outcome is Outcome.DRIFTED:
                about: dict[str, str | int] = {
                    "passerelle.target": attempt.target,
                    "passerelle.replica": attempt.replica,
                }
                span.span.add_event("repair", about, attempt.span.ended)


def method(scope: Scope) -> str:
    """The method as the name of a span has it: a caller may invent others."""
    return scope["method"] if scope["method"] in _METHODS else "HTTP"


def _known(facts: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in facts.items() if value is not None}
