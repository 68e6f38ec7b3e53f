"""The OpenAPI document: bodies and answers that are read and written without FastAPI's models."""

from __future__ import annotations

from typing import Any, Final

Answers = dict[int | str, dict[str, Any]]

_ERROR: Final = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}
_WHY: Final = {
    400: "The request is not valid.",
    401: "No token or key that holds.",
    403: "The caller's scopes do not allow it.",
    404: "There is nothing of that name, or nothing for this caller.",
    409: "It is there already, or its tenant is disabled.",
    413: "The body is too long.",
    429: "Too many requests, or a budget is spent.",
    500: "A mistake on our side.",
    502: "No model server gave a usable answer.",
    503: "A part is not there; `Retry-After` says when to come back.",
    504: "The model server did not answer in time.",
}
MODEL_CALL: Final = (400, 401, 403, 404, 413, 429, 500, 502, 503, 504)
LOOK: Final = (400, 401, 403, 404, 503)
CHANGE: Final = (400, 401, 403, 404, 409, 413, 503)


def json_body(schema: dict[str, Any]) -> dict[str, Any]:
    """The part of a route's document that says what it takes."""
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def answers(good: int, *bad: int, streams: bool = False) -> Answers:
    """The statuses of a route, all but `good` with the error object."""
    content: dict[str, Any] = {"application/json": {"schema": {"type": "object"}}}
    if streams:
        content["text/event-stream"] = {"schema": {"type": "string"}}
    found: Answers = {good: {"description": "The answer.", "content": content}}
    for status in bad:
        found[status] = {"description": _WHY[status], "content": {"application/json": {"schema": _ERROR}}}
    return found
