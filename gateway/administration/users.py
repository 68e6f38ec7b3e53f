"""`/admin/users`."""

from typing import Annotated, Literal

import msgspec
from fastapi import APIRouter, Depends, Request, Response
from msgspec import UNSET, UnsetType

from auth import Principal
from auth.administration import Administration
from auth.store import User
from gateway.access import Access
from gateway.administration import http as web
from gateway.administration.http import PAGE, After, Limit, OfTenant, PerMinute, Scope, Tenant
from gateway.documented import ADD, CHANGE, FIND, LIST, answers, page, row

Role = Literal["member", "service", "operator", "admin"]


class NewUser(web.Rights, forbid_unknown_fields=True, kw_only=True):
    """The user to add. Without `tenant` the caller's; without `scopes` the role's; without a limit the configured one holds."""

    username: str
    password: str
    tenant: Tenant | None = None
    role: Role = "member"


class UserChange(msgspec.Struct, forbid_unknown_fields=True):
    """What is to be changed; a role without scopes brings its own. Tokens and logins of before end."""

    role: Role | UnsetType = UNSET
    scopes: set[Scope] | UnsetType = UNSET
    may_leave: bool | UnsetType = UNSET
    requests_per_minute: PerMinute | UnsetType | None = UNSET
    disabled: bool | UnsetType = UNSET
    password: str | UnsetType = UNSET


_USER = row(User, "password_hash", "generation")
_EXAMPLE = {"username": "zoe", "password": "sept chevaux bleus sur la colline", "role": "member"}


def router(administration: Administration, access: Access) -> APIRouter:
    """The routes."""
    routes = APIRouter(prefix="/admin/users", tags=["admin"])
    Caller = Annotated[Principal, Depends(access)]  # noqa: N806  # a type

    @routes.get("", summary="The users, by name", responses=answers(200, *LIST, of=page(_USER)))
    async def users(caller: Caller, tenant: OfTenant = None, after: After = "", limit: Limit = PAGE) -> Response:
        rows = await administration.users(caller, tenant, after, limit + 1)
        return web.page(rows, limit, _shown)

    @routes.post(
        "",
        status_code=201,
        summary="Add a user",
        openapi_extra=web.documented(NewUser, user=_EXAMPLE),
        responses=answers(201, *ADD, of=_USER),
    )
    async def add_user(http: Request, caller: Caller) -> Response:
        caller.require("admin")
        new = await web.body(http, NewUser)
        by = web.actor(http, caller)
        user = await administration.add_user(
            caller, by, new.username, new.password, new.grant(), tenant=new.tenant, role=new.role
        )
        return web.one(_shown(user), 201)

    @routes.get("/{user_id}", summary="One user", responses=answers(200, *FIND, of=_USER))
    async def user(user_id: str, caller: Caller) -> Response:
        return web.one(_shown(await administration.user(caller, user_id)))

    @routes.patch(
        "/{user_id}",
        summary="Change a user",
        openapi_extra=web.documented(UserChange, promoted={"role": "operator"}),
        responses=answers(200, *CHANGE, of=_USER),
    )
    async def change_user(user_id: str, http: Request, caller: Caller) -> Response:
        caller.require("operate")
        changes = web.given(await web.body(http, UserChange))
        return web.one(_shown(await administration.change_user(caller, web.actor(http, caller), user_id, **changes)))

    return routes


def _shown(user: User) -> dict[str, object]:
    return web.shown(user, "password_hash", "generation")
