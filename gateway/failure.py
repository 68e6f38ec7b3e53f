"""What went wrong at a model server, and whose fault it is.

A `Failure` is something another replica or target may mend; a `GatewayError` blames the request and goes straight back to the
caller. Nothing a server says is passed on but its words about a caller's own fault.
"""

from __future__ import annotations

import orjson

from gateway.errors import (
    ContextLengthExceeded,
    GatewayError,
    InvalidRequest,
    RateLimited,
    UpstreamFailed,
    UpstreamTimeout,
    UpstreamUnavailable,
)


class Failure(Exception):
    """A replica did not answer; `error` is what the caller is told if no other one does, `counts` whether it is to blame."""

    def __init__(self, reason: str, error: GatewayError, *, counts: bool = True) -> None:
        super().__init__(reason)
        self.reason = reason
        self.error = error
        self.counts = counts


def refusal(status: int, retry_after: str | None, raw: bytes) -> Exception:
    """Who is to blame for an answer of `status`; nothing of the body is passed on but the words about a caller's fault."""
    message, code, param = _words(raw)
    if status == 429:
        seconds = retry_after if retry_after and retry_after.isdigit() else "1"
        limited = RateLimited("The model server takes no more requests for now.", headers={"retry-after": seconds})
        return Failure("status 429", limited, counts=False)  # it is alive and says so
    if status in (400, 404, 413, 422):
        text = message.lower()
        if code == "context_length_exceeded" or "context length" in text or "maximum model length" in text:
            return ContextLengthExceeded(message or "The request does not fit the model's context.")
        if "--tool-call-parser" in text:  # the flag is the operator's, the caller can only do without
            return InvalidRequest("This model does not call tools.", param="tools")
        # A model server without a chat template, or without the model, is our fault and not the caller's.
        if status != 404 and "chat template" not in text and message:
            return InvalidRequest(message, param=param)
        return failed(f"status {status}")
    if status == 503:
        return Failure("status 503", UpstreamUnavailable("No model server is available.", headers=_retry(retry_after)))
    if status in (408, 504):
        return timeout(f"status {status}")
    return failed(f"status {status}")


def _words(raw: bytes) -> tuple[str, str | None, str | None]:
    """Message, code and param of an error body, OpenAI's or a flat one."""
    try:
        answer = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return "", None, None
    error = answer.get("error", answer) if isinstance(answer, dict) else {}
    if not isinstance(error, dict):
        return str(error)[:500], None, None
    code, param = error.get("code"), error.get("param")
    message = str(error.get("message") or "")[:500]
    return message, code if isinstance(code, str) else None, param[:100] if isinstance(param, str) else None


def _retry(retry_after: str | None) -> dict[str, str]:
    return {"retry-after": retry_after if retry_after and retry_after.isdigit() else "2"}


def failed(reason: str) -> Failure:
    """The server answered with nothing usable."""
    return Failure(reason, UpstreamFailed("The model server gave no usable answer."))


def timeout(reason: str) -> Failure:
    """The server did not answer, or fell silent, within a limit."""
    return Failure(reason, UpstreamTimeout("The model server did not answer in time."))


def unavailable(reason: str) -> Failure:
    """The server cannot be reached."""
    return Failure(reason, UpstreamUnavailable("No model server is available.", headers={"retry-after": "2"}))
