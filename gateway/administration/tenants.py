"""`/admin/tenants`."""

from typing import Annotated

import msgspec
from fastapi import APIRouter, Depends, Request, Response

from auth import Principal
from auth.administration import Administration
from auth.tenants import Tenant
from gateway.access import Access
from gateway.administration import http as web
from gateway.documented import ADD, CHANGE, LOOK, answers, page, row


class NewTenant(msgspec.Struct, forbid_unknown_fields=True):
    """The tenant to add."""

    name: web.Tenant


class TenantChange(msgspec.Struct, forbid_unknown_fields=True):
    """`disabled`: nobody of the tenant is let in."""

    disabled: bool


_TENANT = row(Tenant)


def router(administration: Administration, access: Access) -> APIRouter:
    """The routes."""
    routes = APIRouter(prefix="/admin/tenants", tags=["admin"])
    Caller = Annotated[Principal, Depends(access)]  # noqa: N806  # a type

    @routes.get("", summary="The tenants within reach", responses=answers(200, *LOOK, of=page(_TENANT)))
    async def tenants(caller: Caller) -> Response:
        rows = await administration.tenants(caller)
        return web.page(rows, len(rows), web.shown)

    @routes.post(
        "",
        status_code=201,
        summary="Add a tenant",
        openapi_extra=web.documented(NewTenant, tenant={"name": "acme"}),
        responses=answers(201, *ADD, of=_TENANT),
    )
    async def add_tenant(http: Request, caller: Caller) -> Response:
        caller.require("tenants")
        new = await web.body(http, NewTenant)
        return web.one(web.shown(await administration.add_tenant(caller, web.actor(http, caller), new.name)), 201)

    @routes.patch(
        "/{name:path}",
        summary="Close a tenant, or open it again",
        openapi_extra=web.documented(TenantChange, closed={"disabled": True}),
        responses=answers(200, *CHANGE, of=_TENANT),
    )
    async def change_tenant(name: str, http: Request, caller: Caller) -> Response:
        caller.require("tenants")
        change = await web.body(http, TenantChange)
        by = web.actor(http, caller)
        return web.one(web.shown(await administration.change_tenant(caller, by, name, disabled=change.disabled)))

    return routes
