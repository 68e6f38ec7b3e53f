"""The configuration of traces: where they go, how many there are, who is believed and who is told of them."""

from __future__ import annotations

from typing import Annotated

from pydantic import AnyHttpUrl, Field, field_validator

from gateway.target import Count, Part, Seconds


class Tracing(Part):
    """OpenTelemetry traces, sent by OTLP over HTTP to the collector at `endpoint`; without one nothing is traced.

    `ratio` is the share of requests that are recorded. `timeout_seconds` is for one export, and for the last one at the end.
    `queue` spans wait for an export at most; what is more is lost. `trust_callers`: whether a caller's trace is recorded is the
    caller's to say. `tell_outside`: targets that are outside are told trace ids too.
    """

    endpoint: AnyHttpUrl | None = None
    service_name: Annotated[str, Field(min_length=1, max_length=100)] = "passerelle"
    ratio: Annotated[float, Field(ge=0, le=1)] = 0.1
    timeout_seconds: Seconds = 5
    queue: Count = 2048
    trust_callers: bool = False
    tell_outside: bool = False

    @field_validator("endpoint")
    @classmethod
    def _is_an_address_alone(cls, endpoint: AnyHttpUrl | None) -> AnyHttpUrl | None:
        if endpoint is not None and (endpoint.username or endpoint.password or endpoint.query or endpoint.fragment):
            raise ValueError(
                "URL of a collector has no user, password or query (OTEL_EXPORTER_OTLP_HEADERS holds keys)"
            )
        return endpoint

    def address(self) -> str:
        """Where spans are posted (OTLP/HTTP: /v1/traces below the collector's base address)."""
        base = str(self.endpoint).rstrip("/")
        return base if base.endswith("/v1/traces") else f"{base}/v1/traces"
