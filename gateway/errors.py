"""Every error a caller can meet, and the one function that turns it into the OpenAI error object.

Domain code raises; `render` and `event` alone know how an error looks on the wire (OpenAI API reference, "Error codes").
Errors of the `auth` package carry the same attributes and are rendered the same way.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import orjson


class Renderable(Protocol):
    """What `render` needs of an error: `status` (HTTP), `type`, `code`, `headers`; `str()` is the message."""

    status: int
    type: str
    code: str | None

    @property
    def headers(self) -> Mapping[str, str]: ...  # noqa: D102  # the class says it


class GatewayError(Exception):
    """The base: a failure of our own making, told without any detail of the inside."""

    status = 500
    type = "server_error"
    code: str | None = "internal_error"

    def __init__(self, message: str, *, param: str | None = None, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.param = param
        self.headers: Mapping[str, str] = headers or {}


class InvalidRequest(GatewayError):
    """The request cannot be understood or breaks a rule; `param` names the place."""

    status = 400
    type = "invalid_request_error"
    code: str | None = None


class PayloadTooLarge(InvalidRequest):
    """The body is over the configured number of bytes."""

    status = 413
    code: str | None = "request_too_large"


class ContextLengthExceeded(InvalidRequest):
    """The prompt and the answer asked for do not fit the model's context window."""

    code: str | None = "context_length_exceeded"


class ContentPolicy(InvalidRequest):
    """A policy guard refused the request before any model was asked."""

    code: str | None = "content_policy_violation"


class ModelNotFound(InvalidRequest):
    """No model of that name is published to this caller."""

    status = 404
    code: str | None = "model_not_found"


class WrongTask(InvalidRequest):
    """The model exists, but does not do what this path is for."""

    status = 404
    code: str | None = "model_not_supported"


class NotFound(InvalidRequest):
    """No such path."""

    status = 404
    code: str | None = "not_found"


class MethodNotAllowed(InvalidRequest):
    """The path exists, the method does not."""

    status = 405
    code: str | None = "method_not_allowed"


class RateLimited(GatewayError):
    """Too many requests from this caller; `Retry-After` is always set (RFC 6585, section 4).

    `limit` is whose limit it was and what it counts.
    """

    limit: tuple[str, str] | None = None
    status = 429
    type = "requests"
    code: str | None = "rate_limit_exceeded"


class InsufficientQuota(RateLimited):
    """The caller's budget is spent: trying again before its month is over does not help."""

    type = "insufficient_quota"
    code: str | None = "insufficient_quota"


class LimitsUnavailable(GatewayError):
    """What counts the limits is away, and the operator would rather serve nobody than too much."""

    status = 503
    code: str | None = "limits_unavailable"


class GuardUnavailable(GatewayError):
    """A guard that has to check the request cannot; told in French, as whoever chats may read it."""

    status = 503
    code: str | None = "guard_unavailable"


class UpstreamFailed(GatewayError):
    """The model server answered, but not with anything usable."""

    status = 502
    code: str | None = "upstream_failed"


class UpstreamUnavailable(GatewayError):
    """No model server can take the request now; `Retry-After` says when to come back."""

    status = 503
    code: str | None = "upstream_unavailable"


class Overloaded(UpstreamUnavailable):
    """More requests than a pool and its queue can take; `Retry-After` is how long a place may take to come free."""

    code: str | None = "overloaded"


class UpstreamTimeout(GatewayError):
    """The model server did not answer, or fell silent, within the time limits."""

    status = 504
    code: str | None = "upstream_timeout"


class ServerStopping(GatewayError):
    """The gateway has been told to stop, and the time for requests under way is over."""

    status = 503
    code: str | None = "server_stopping"


def unknown_model(name: str) -> ModelNotFound:
    """The model is not published, or not to this caller: the two are not told apart."""
    return ModelNotFound(f"The model {name[:80]!r} does not exist or you have no access to it.", param="model")


def body(error: Renderable) -> dict[str, Any]:
    """The OpenAI error object: `{"error": {"message", "type", "param", "code"}}`."""
    return {
        "error": {
            "message": str(error),
            "type": error.type,
            "param": getattr(error, "param", None),
            "code": error.code,
        }
    }


def render(error: Renderable) -> tuple[int, dict[str, str], bytes]:
    """An error as an HTTP answer: status, headers, JSON body."""
    # RFC 6585, section 4, and RFC 9110, section 15.6.4: whoever is told to come back is told when.
    passing = {"retry-after": "1"} if error.status in (429, 503) else {}
    own = {
        name.lower(): value for name, value in error.headers.items()
    }  # or a name in two spellings would be sent twice
    return error.status, {"content-type": "application/json", **passing, **own}, orjson.dumps(body(error))


def event(error: Renderable) -> bytes:
    """An error as a server-sent event, for a stream whose status has already left.

    The official SDKs raise `APIError` on an event whose top-level `error` is truthy.
    """
    return b"data: " + orjson.dumps(body(error)) + b"\n\n"
