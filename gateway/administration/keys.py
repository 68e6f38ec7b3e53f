"""`/admin/keys`, and `/auth/keys` for those of one's own."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated

import msgspec
from fastapi import APIRouter, Depends, Request, Response

from auth import Principal
from auth.administration import Administration
from auth.keys import Key
from auth.rights import Grant
from gateway.access import Access
from gateway.administration import http as web
from gateway.administration.http import PAGE, After, Limit, OfTenant, Tenant
from gateway.documented import ADD, FIND, LIST, TEXT, answers, page, row
from gateway.errors import InvalidRequest

_Model = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
_Future = Annotated[datetime, msgspec.Meta(tz=True)]


class OwnKey(web.Rights, forbid_unknown_fields=True, kw_only=True):
    """The key to make. Without `scopes` a service's that the caller has, without `models` for all, without an end for good."""

    name: str
    models: Annotated[set[_Model], msgspec.Meta(min_length=1, max_length=100)] | None = None
    expires_at: _Future | None = None

    def grant(self) -> Grant:
        """Its rights; raises InvalidRequest for an end that has passed, or that is in no year of UTC."""
        try:
            ends = None if self.expires_at is None else self.expires_at.astimezone(UTC)
        except OverflowError as error:
            raise InvalidRequest("expires_at lies beyond the calendar.", param="expires_at") from error
        if ends is not None and ends <= datetime.now(UTC):
            raise InvalidRequest("expires_at lies in the past.", param="expires_at")
        models = None if self.models is None else frozenset(self.models)
        return replace(super().grant(), models=models, expires_at=ends)


class NewKey(OwnKey, forbid_unknown_fields=True, kw_only=True):
    """As a key of one's own, but for a `tenant`, and for a user of it (`owner`, an id), whose rights bound it, or for nobody."""

    tenant: Tenant | None = None
    owner: str | None = None


_KEY, _NEW_KEY = row(Key), row(Key, key=TEXT)
_EXAMPLE = {"name": "notebook", "scopes": ["chat"], "requests_per_minute": 10}


def router(administration: Administration, access: Access) -> APIRouter:
    """The routes."""
    routes = APIRouter()
    routes.include_router(_all(administration, access))
    routes.include_router(_own(administration, access))
    return routes


def _all(administration: Administration, access: Access) -> APIRouter:
    routes = APIRouter(prefix="/admin/keys", tags=["admin"])
    Caller = Annotated[Principal, Depends(access)]  # noqa: N806  # a type

    @routes.get("", summary="The API keys", responses=answers(200, *LIST, of=page(_KEY)))
    async def keys(caller: Caller, tenant: OfTenant = None, after: After = "", limit: Limit = PAGE) -> Response:
        return web.page(await administration.keys(caller, tenant, after, limit + 1), limit, web.shown)

    @routes.post(
        "",
        status_code=201,
        summary="Make an API key; it is shown once",
        openapi_extra=web.documented(NewKey, key=_EXAMPLE),
        responses=answers(201, 404, *ADD, of=_NEW_KEY),
    )
    async def add_key(http: Request, caller: Caller) -> Response:
        caller.require("admin")
        new = await web.body(http, NewKey)
        by = web.actor(http, caller)
        key, secret = await administration.add_key(
            caller, by, new.name, new.grant(), tenant=new.tenant, owner=new.owner
        )
        return web.one(_with_secret(key, secret), 201)

    @routes.delete("/{key_id}", summary="Revoke an API key", responses=answers(200, *FIND, of=_KEY))
    async def revoke_key(key_id: str, http: Request, caller: Caller) -> Response:
        return web.one(web.shown(await administration.revoke_key(caller, web.actor(http, caller), key_id)))

    return routes


def _own(administration: Administration, access: Access) -> APIRouter:
    routes = APIRouter(prefix="/auth/keys", tags=["auth"])
    Caller = Annotated[Principal, Depends(access)]  # noqa: N806  # a type

    @routes.get("", summary="One's own API keys", responses=answers(200, *LIST, of=page(_KEY)))
    async def own_keys(caller: Caller, after: After = "", limit: Limit = PAGE) -> Response:
        return web.page(await administration.own_keys(caller, after, limit + 1), limit, web.shown)

    @routes.post(
        "",
        status_code=201,
        summary="Make an API key of one's own; it is shown once",
        openapi_extra=web.documented(OwnKey, key=_EXAMPLE),
        responses=answers(201, 404, *ADD, of=_NEW_KEY),
    )
    async def add_own_key(http: Request, caller: Caller) -> Response:
        caller.require("keys")
        new = await web.body(http, OwnKey)
        by = web.actor(http, caller)
        return web.one(_with_secret(*await administration.add_own_key(caller, by, new.name, new.grant())), 201)

    @routes.delete("/{key_id}", summary="Revoke an API key of one's own", responses=answers(200, *FIND, of=_KEY))
    async def revoke_own_key(key_id: str, http: Request, caller: Caller) -> Response:
        return web.one(web.shown(await administration.revoke_key(caller, web.actor(http, caller), key_id)))

    return routes


def _with_secret(key: Key, secret: str) -> dict[str, object]:
    return {**web.shown(key), "key": secret}
