"""`/admin/clients`."""

from typing import Annotated

import msgspec
from fastapi import APIRouter, Depends, Request, Response
from msgspec import UNSET, UnsetType

from auth import Principal
from auth.administration import Administration
from auth.clients import Client
from gateway.access import Access
from gateway.administration import http as web
from gateway.administration.http import PAGE, After, Limit, OfTenant, PerMinute, Scope, Tenant
from gateway.documented import ADD, CHANGE, FIND, LIST, TEXT, answers, page, row, shape


class NewClient(web.Rights, forbid_unknown_fields=True, kw_only=True):
    """The service client to make. Without `tenant` the caller's, without `scopes` a service's."""

    name: str
    tenant: Tenant | None = None


class ClientChange(msgspec.Struct, forbid_unknown_fields=True):
    """What is to be changed. Tokens of before are void."""

    scopes: set[Scope] | UnsetType = UNSET
    may_leave: bool | UnsetType = UNSET
    requests_per_minute: PerMinute | UnsetType | None = UNSET
    disabled: bool | UnsetType = UNSET


_CLIENT = row(Client, "generation", client_id=TEXT)
_NEW_CLIENT = row(Client, "generation", client_id=TEXT, client_secret=TEXT)
_SECRET = shape(client_id=TEXT, client_secret=TEXT)
_EXAMPLE = {"name": "nightly-summaries", "scopes": ["chat", "models"], "requests_per_minute": 30}


def router(administration: Administration, access: Access) -> APIRouter:
    """The routes."""
    routes = APIRouter(prefix="/admin/clients", tags=["admin"])
    Caller = Annotated[Principal, Depends(access)]  # noqa: N806  # a type

    @routes.get("", summary="The service clients", responses=answers(200, *LIST, of=page(_CLIENT)))
    async def clients(caller: Caller, tenant: OfTenant = None, after: After = "", limit: Limit = PAGE) -> Response:
        return web.page(await administration.clients(caller, tenant, after, limit + 1), limit, _shown)

    @routes.post(
        "",
        status_code=201,
        summary="Make a service client; its secret is shown once",
        openapi_extra=web.documented(NewClient, client=_EXAMPLE),
        responses=answers(201, *ADD, of=_NEW_CLIENT),
    )
    async def add_client(http: Request, caller: Caller) -> Response:
        caller.require("admin")
        new = await web.body(http, NewClient)
        by = web.actor(http, caller)
        client, secret = await administration.add_client(caller, by, new.name, new.grant(), tenant=new.tenant)
        return web.one({**_shown(client), "client_secret": secret}, 201)

    @routes.get("/{client_id}", summary="One client", responses=answers(200, *FIND, of=_CLIENT))
    async def client(client_id: str, caller: Caller) -> Response:
        return web.one(_shown(await administration.client(caller, client_id)))

    @routes.patch(
        "/{client_id}",
        summary="Change a client",
        openapi_extra=web.documented(ClientChange, closed={"disabled": True}),
        responses=answers(200, *CHANGE, of=_CLIENT),
    )
    async def change_client(client_id: str, http: Request, caller: Caller) -> Response:
        caller.require("operate")
        changes = web.given(await web.body(http, ClientChange))
        by = web.actor(http, caller)
        return web.one(_shown(await administration.change_client(caller, by, client_id, **changes)))

    @routes.post("/{client_id}/secret", summary="Replace a client's secret", responses=answers(200, *FIND, of=_SECRET))
    async def new_secret(client_id: str, http: Request, caller: Caller) -> Response:
        secret = await administration.new_client_secret(caller, web.actor(http, caller), client_id)
        return web.one({"client_id": client_id, "client_secret": secret})

    return routes


def _shown(client: Client) -> dict[str, object]:
    return {"client_id": client.id, **web.shown(client, "generation")}
