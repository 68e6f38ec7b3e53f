"""`/admin/audit`."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response

from auth import Principal
from auth.administration import Administration
from auth.audit import Entry
from gateway.access import Access
from gateway.administration import http as web
from gateway.administration.http import PAGE, Limit, OfTenant
from gateway.documented import LIST, answers, page, row

Before = Annotated[
    int | None, Query(ge=0, le=2**62, description="Rows before this one: the last `id` of the page before.")
]

_LIST = answers(200, *LIST, of=page(row(Entry)))


def router(administration: Administration, access: Access) -> APIRouter:
    """The route."""
    routes = APIRouter(prefix="/admin/audit", tags=["admin"])
    Caller = Annotated[Principal, Depends(access)]  # noqa: N806  # a type

    @routes.get("", summary="Who changed which right, newest first", responses=_LIST)
    async def audit(caller: Caller, tenant: OfTenant = None, before: Before = None, limit: Limit = PAGE) -> Response:
        return web.page(await administration.audit(caller, tenant, before, limit + 1), limit, web.shown)

    return routes
