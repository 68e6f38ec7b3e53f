"""The OpenAPI document: bodies and answers that are read and written without FastAPI's models, and what `publish` adds to it."""

from __future__ import annotations

import copy
from dataclasses import fields
from datetime import datetime
from importlib import metadata
from typing import Any, Final, get_type_hints

import msgspec

Schema = dict[str, Any]
Answers = dict[int | str, dict[str, Any]]

TEXT: Final[Schema] = {"type": "string"}
NUMBER: Final[Schema] = {"type": "integer"}
MAYBE_TEXT: Final[Schema] = {"type": ["string", "null"]}


def shape(**properties: Schema) -> Schema:
    """An object with all of these and nothing else."""
    return {"type": "object", "required": list(properties), "properties": properties, "additionalProperties": False}


def some(**properties: Schema) -> Schema:
    """An object with all of these, and maybe others."""
    return {"type": "object", "required": list(properties), "properties": properties}


def array(items: Schema) -> Schema:
    """A list."""
    return {"type": "array", "items": items}


def constant(value: str) -> Schema:
    """One text and no other."""
    return {"type": "string", "const": value}


_ERROR: Final = shape(error=shape(message=TEXT, type=TEXT, param=MAYBE_TEXT, code=MAYBE_TEXT))
_ERROR_EXAMPLE: Final = {
    "error": {
        "message": "The body is not valid JSON in UTF-8.",
        "type": "invalid_request_error",
        "param": None,
        "code": None,
    }
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
_WITH: Final[dict[int, dict[str, Any]]] = {
    401: {"WWW-Authenticate": {"description": "RFC 6750, section 3.", "required": True, "schema": TEXT}},
    429: {"Retry-After": {"description": "Seconds.", "required": True, "schema": {"type": "integer", "minimum": 0}}},
    503: {"Retry-After": {"description": "Seconds.", "required": True, "schema": {"type": "integer", "minimum": 0}}},
}
_REQUEST_ID: Final = {
    "description": "The id under which the request is logged; the caller's own `X-Request-Id` if it sent a proper one.",
    "required": True,
    "schema": {"type": "string", "pattern": "^[A-Za-z0-9._:-]{1,128}$"},
}
_EVENT: Final = some(data={"type": "string", "description": "A chunk as JSON; `[DONE]` in the last event."})
TAGS: Final = [
    {"name": "openai", "description": "What the OpenAI SDKs call."},
    {"name": "auth", "description": "Tokens, the keys that verify them, and API keys of one's own."},
    {"name": "admin", "description": "Tenants, users, API keys, service clients, and the audit of changes to them."},
    {"name": "operation", "description": "For load balancers and Prometheus."},
]
_IN: Final = (401, 403, 503)
MODEL_CALL: Final = (400, 401, 403, 404, 413, 429, 500, 502, 503, 504)
LOOK: Final = _IN  # at everything
LIST: Final = (400, *_IN)  # page by page
FIND: Final = (400, 404, *_IN)  # something by its name, to look at it or to end it
ADD: Final = (400, 409, 413, *_IN)
CHANGE: Final = (413, *FIND)


def json_body(schema: Schema, **examples: object) -> dict[str, Any]:
    """The part of a route's document that says what it takes."""
    content: dict[str, Any] = {"schema": schema}
    if examples:
        content["examples"] = {name: {"value": value} for name, value in examples.items()}
    return {"requestBody": {"required": True, "content": {"application/json": content}}}


def answers(good: int, *bad: int, of: Schema, streams: bool = False) -> Answers:
    """The statuses of a route: `good` with `of`, all others with the error object."""
    content: dict[str, Any] = {"application/json": {"schema": of}}
    if streams:
        content["text/event-stream"] = {"itemSchema": _EVENT}
    found: Answers = {good: {"description": "The answer.", "content": content}}
    for status in sorted(bad):
        found[status] = {
            "description": _WHY[status],
            "headers": _WITH.get(status, {}),
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
        }
    return found


def row(kind: type, *without: str, **more: Schema) -> Schema:
    """What is shown of a dataclass: its fields but those of `without`, and `more`; nothing else, lest a secret slip out."""
    _, shapes = msgspec.json.schema_components([kind])
    types, known = get_type_hints(kind), shapes[kind.__name__]["properties"]
    shown = {field.name: known[field.name] for field in fields(kind) if field.name not in without}
    times = {
        name: {"type": ["string", "null"] if type(None) in getattr(types[name], "__args__", ()) else "string"}
        for name in shown
        if datetime in (types[name], *getattr(types[name], "__args__", ()))
    }
    return shape(**more, **{**shown, **{name: {**time, "format": "date-time"} for name, time in times.items()}})


def page(of: Schema) -> Schema:
    """A list as OpenAI's API shows one."""
    return shape(object=constant("list"), data=array(of), has_more={"type": "boolean"})


def about() -> tuple[str, str]:
    """The installed version, and what the program is in a sentence."""
    told = metadata.metadata("passerelle")
    return told["Version"], told["Summary"]


def completed(usual: dict[str, Any]) -> dict[str, Any]:
    """FastAPI's document with what is true of all routes: the error object, the request's id, and no status 422."""
    found = copy.deepcopy(usual)
    parts = found.setdefault("components", {})
    schemas = parts.setdefault("schemas", {})
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    schemas["Error"] = {**_ERROR, "examples": [_ERROR_EXAMPLE]}
    parts["headers"] = {"RequestId": _REQUEST_ID}
    for path in found["paths"].values():
        for operation in path.values():
            if _is_fastapis(operation["responses"].get("422")):
                del operation["responses"]["422"]  # what FastAPI refuses is a 400 here
            for answer in operation["responses"].values():
                answer.setdefault("headers", {})["X-Request-Id"] = {"$ref": "#/components/headers/RequestId"}
    return found


def _is_fastapis(answer: dict[str, Any] | None) -> bool:
    return answer is not None and "HTTPValidationError" in str(answer)


_STREAM: Final[Schema] = {"type": ["boolean", "null"], "description": "Whether the answer comes as server-sent events."}
_SOME: Final[Schema] = {"type": ["integer", "null"], "minimum": 1}
WORDS: Final[Schema] = {"type": "string", "minLength": 1}
_TEXTS: Final[Schema] = {"anyOf": [WORDS, {"type": "array", "minItems": 1, "items": WORDS}]}
_PART: Final[Schema] = {
    "type": "object",
    "required": ["type"],
    "properties": {"type": {"enum": ["text", "refusal", "image_url"]}, "text": {"type": ["string", "null"]}},
}
_MESSAGES: Final[Schema] = {
    "type": "array",
    "minItems": 1,
    "items": {
        "type": "object",
        "required": ["role"],
        "properties": {
            "role": {"enum": ["system", "developer", "user", "assistant", "tool", "function"]},
            "content": {"anyOf": [TEXT, {"type": "array", "items": _PART}, {"type": "null"}]},
        },
    },
}

_MODEL: Final = shape(id=TEXT, object=constant("model"), created=NUMBER, owned_by=TEXT)
_MODELS: Final = shape(object=constant("list"), data=array(_MODEL))
_USAGE: Final = some(prompt_tokens=NUMBER, total_tokens=NUMBER)
_FINISH: Final[Schema] = {"type": ["string", "null"]}
_TURN: Final = some(role=constant("assistant"), content={"type": ["string", "null"]})
_ENVELOPE: Final = {"id": TEXT, "created": NUMBER, "model": TEXT, "usage": _USAGE}
_CHAT: Final = some(
    object=constant("chat.completion"),
    choices=array(some(index=NUMBER, message=_TURN, finish_reason=_FINISH)),
    **_ENVELOPE,
)
_COMPLETION: Final = some(
    object=constant("text_completion"),
    choices=array(some(index=NUMBER, text=TEXT, finish_reason=_FINISH)),
    **_ENVELOPE,
)
_VECTORS: Final = some(
    object=constant("list"),
    model=TEXT,
    data=array(some(object=constant("embedding"), index=NUMBER, embedding={"type": ["array", "string"]})),
)
A_MODEL: Final = "tiiuae/falcon-7b-instruct"
_ASKED: Final = {"model": A_MODEL, "messages": [{"role": "user", "content": "Quelle est la capitale de la France ?"}]}
_BEGUN: Final = {"model": A_MODEL, "prompt": "Il était une fois, dans une petite ville,", "max_tokens": 40}
_WEIGHED: Final = {"model": A_MODEL, "input": ["Un avis sur la livraison.", "Le colis est arrivé en retard."]}


def _body(title: str, examples: dict[str, dict[str, Any]], *required: str, **properties: Schema) -> dict[str, Any]:
    """The part of the OpenAPI document that says what a route takes: the fields acted on, and where the others are described."""
    return json_body(
        {
            "type": "object",
            "description": f"As OpenAI's API reference has it, “{title}”.",
            "required": ["model", *required],
            "properties": {"model": {"type": "string", "minLength": 1, "maxLength": 256}, **properties},
        },
        **examples,
    )


def _plain_and_streamed(body: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {"plain": body, "streamed": {**body, "stream": True}}


CHAT_BODY: Final = _body(
    "Create chat completion",
    _plain_and_streamed(_ASKED),
    "messages",
    messages=_MESSAGES,
    stream=_STREAM,
    n=_SOME,
    max_tokens=_SOME,
    max_completion_tokens=_SOME,
)
COMPLETION_BODY: Final = _body(
    "Create completion",
    _plain_and_streamed(_BEGUN),
    "prompt",
    prompt=_TEXTS,
    stream=_STREAM,
    n=_SOME,
    max_tokens=_SOME,
)
EMBEDDINGS_BODY: Final = _body("Create embeddings", {"texts": _WEIGHED}, "input", input=_TEXTS)
ALIVE: Final = answers(200, of=shape(status=constant("ok")))
_PARTS: Final[Schema] = {"type": "object", "additionalProperties": {"enum": ["ok", "down"]}}
_NOTES: Final[Schema] = {"type": "object", "additionalProperties": TEXT}


def _readiness(*statuses: str) -> Schema:
    known = shape(status={"enum": [*statuses]}, parts=_PARTS)
    return {**known, "properties": {**known["properties"], "notes": _NOTES}}


READY: Final = answers(200, of=_readiness("ok", "degraded")) | {
    503: {
        "description": "It cannot.",
        "content": {"application/json": {"schema": _readiness("unavailable", "stopping")}},
    }
}
FIGURES: Final[Answers] = {200: {"description": "Figures.", "content": {"text/plain": {"schema": TEXT}}}}
CHAT_ANSWERS: Final = answers(200, *MODEL_CALL, of=_CHAT, streams=True)
COMPLETION_ANSWERS: Final = answers(200, *MODEL_CALL, of=_COMPLETION, streams=True)
EMBEDDINGS_ANSWERS: Final = answers(200, *MODEL_CALL, of=_VECTORS)
MODELS_ANSWERS: Final = answers(200, *LOOK, of=_MODELS)
MODEL_ANSWERS: Final = answers(200, *FIND, of=_MODEL)

_DECIMAL: Final[Schema] = {"type": "string", "pattern": r"^-?[0-9]+(\.[0-9]+)?$"}
_COUNTS: Final = (
    *("requests", "errors", "refusals", "cancelled", "regenerations", "fallbacks"),
    *("prompt_tokens", "completion_tokens", "lost_tokens"),
)
_FIGURES: Final = {
    **dict.fromkeys(_COUNTS, NUMBER),
    **dict.fromkeys(("gpu_hours", "charged", "cost", "avoided"), _DECIMAL),
}
_DAY: Final[Schema] = {"type": "string", "format": "date"}
_RETURN: Final = some(**dict.fromkeys(("hours", "gpu_hours", "avoided", "gpu", "fallback", "returned"), _DECIMAL))
_REPORT: Final = some(
    object=constant("usage"),
    currency=TEXT,
    since=_DAY,
    until=_DAY,
    by=array(TEXT),
    data=array(some(**_FIGURES)),
    total=shape(**_FIGURES),
    notes=array(TEXT),
)
_OF_ALL: Final = {**_REPORT, "properties": {**_REPORT["properties"], "investment": _RETURN}}
OWN_USAGE_REPORT: Final = answers(200, *LIST, of=_REPORT)
USAGE_REPORT: Final = answers(200, *LIST, of=_OF_ALL)
USAGE_REPORT[200]["content"]["text/csv"] = {"schema": TEXT}
