"""What the routes have in common: bodies, pages, the OpenAPI document, and who is written into the audit."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import fields
from datetime import datetime
from typing import Annotated, Any, TypeVar

import msgspec
from fastapi import Query, Request
from fastapi.responses import JSONResponse
from starlette.requests import ClientDisconnect

from auth import Principal
from auth.audit import Actor
from auth.rights import Grant
from auth.routes import NO_STORE, host
from gateway import payload, protocol
from gateway.documented import json_body
from gateway.errors import InvalidRequest

_BODY_BYTES = 16 * 1024
_PAGE, _LARGEST = 100, 1000

Body = TypeVar("Body", bound=msgspec.Struct)
Row = TypeVar("Row")

Tenant = Annotated[str, msgspec.Meta(min_length=1, max_length=255, pattern=r"^[^\x00-\x1f\x7f]+$")]
Scope = Annotated[str, msgspec.Meta(pattern="^(chat|models|usage|keys|operate|admin|tenants)$")]
PerMinute = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
Limit = Annotated[int, Query(ge=1, le=_LARGEST, description="How many rows, at most.")]
After = Annotated[
    str, Query(max_length=255, description="Rows after the last of the page before: its `id`, or `username` for users.")
]
OfTenant = Annotated[str | None, Query(max_length=255, description="Of one tenant only.")]
PAGE: Limit = _PAGE


class Rights(msgspec.Struct, forbid_unknown_fields=True):
    """What whoever is added may do. Without `scopes` those of the role; without a limit the configured one holds."""

    scopes: set[Scope] | None = None
    may_leave: bool = False
    requests_per_minute: PerMinute | None = None

    def grant(self) -> Grant:
        """The same for `auth.administration`."""
        scopes = None if self.scopes is None else frozenset(self.scopes)
        return Grant(scopes=scopes, may_leave=self.may_leave, requests_per_minute=self.requests_per_minute)


async def body(http: Request, shape: type[Body]) -> Body:
    """The body of a request; raises InvalidRequest or PayloadTooLarge."""
    try:
        return protocol.convert(protocol.decode(await payload.read(http, _BODY_BYTES)), shape)
    except ClientDisconnect as error:
        raise InvalidRequest("The body did not arrive.") from error


def documented(shape: type[msgspec.Struct], **examples: object) -> dict[str, Any]:
    """The part of the OpenAPI document about a body; one of which nothing is required has to say something all the same."""
    _, shapes = msgspec.json.schema_components([shape])
    schema = _repeatable(shapes[shape.__name__])
    return json_body(schema if schema["required"] else {**schema, "minProperties": 1}, **examples)


def _repeatable(schema: Any) -> Any:
    """The same without `uniqueItems`: what is said twice in a set counts once and is no mistake."""
    if isinstance(schema, list):
        return [_repeatable(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    return {key: _repeatable(value) for key, value in schema.items() if key != "uniqueItems"}


def actor(http: Request, caller: Principal) -> Actor:
    """Who the audit says did it."""
    who = caller.subject if caller.key is None else f"{caller.subject} by key {caller.key}"
    return Actor(who, caller.tenant, host(http), http.scope["passerelle"].request_id)


def given(changes: msgspec.Struct) -> dict[str, Any]:
    """The fields that a change names; raises InvalidRequest when it names none."""
    named = {name: getattr(changes, name) for name in changes.__struct_fields__}
    kept = {name: value for name, value in named.items() if value is not msgspec.UNSET}
    if not kept:
        raise InvalidRequest(f"Nothing is to be changed: give one of {', '.join(named)}.")
    return kept


def page(rows: list[Row], limit: int, show: Callable[[Row], dict[str, Any]]) -> JSONResponse:
    """A list as OpenAI's API shows one; `rows` holds one more than `limit` when there are more."""
    data = [show(row) for row in rows[:limit]]
    return JSONResponse({"object": "list", "data": data, "has_more": len(rows) > limit}, headers=NO_STORE)


def one(shown: dict[str, Any], status: int = 200) -> JSONResponse:
    """One thing."""
    return JSONResponse(shown, status, headers=NO_STORE)


def shown(row: Any, *without: str) -> dict[str, Any]:
    """The fields of a row as JSON has them."""
    return {field.name: _plain(getattr(row, field.name)) for field in fields(row) if field.name not in without}


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    return sorted(value) if isinstance(value, Iterable) and not isinstance(value, str | dict) else value
