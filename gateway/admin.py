"""What only an administrator may do: `POST /admin/users`."""

from typing import Annotated, Any, Literal

import msgspec
import structlog
from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse
from starlette.requests import ClientDisconnect

from auth import Principal, password_rule
from auth.passwords import Passwords
from auth.principal import ADMIN, SCOPES_OF_ROLE
from auth.store import User, UserStore
from gateway import payload, protocol
from gateway.access import Access
from gateway.errors import InvalidRequest

log = structlog.get_logger()

_BODY_BYTES = 16 * 1024


class NewUser(msgspec.Struct, forbid_unknown_fields=True):
    """The user to add. Without `scopes` the role's are given; without `requests_per_minute` the configured limit holds."""

    username: str
    password: str
    tenant: Annotated[str, msgspec.Meta(min_length=1, max_length=255, pattern=r"^[^\x00-\x1f\x7f]+$")] = "default"
    role: Literal["member", "admin"] = "member"
    scopes: set[Literal["chat", "models", "usage", "admin"]] | None = None
    may_leave: bool = False
    requests_per_minute: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] | None = None


def router(access: Access, users: UserStore, passwords: Passwords, minimum_password_length: int) -> APIRouter:
    """The routes; a new password has at least `minimum_password_length` characters."""
    routes = APIRouter(prefix="/admin", tags=["admin"])
    Caller = Annotated[Principal, Depends(access)]  # noqa: N806  # a type

    @routes.post("/users", status_code=201, summary="Add a user", openapi_extra=_documented())
    async def add_user(http: Request, caller: Caller) -> Response:
        caller.require(ADMIN)
        new = await _new_user(http)
        password_rule.check(new.password, minimum_password_length)
        user = await users.add(
            new.username,
            await passwords.hash(new.password),
            tenant=new.tenant,
            role=new.role,
            scopes=SCOPES_OF_ROLE[new.role] if new.scopes is None else new.scopes,
            may_leave=new.may_leave,
            requests_per_minute=new.requests_per_minute,
        )
        log.info("user_added", user=user.id, by=caller.subject)
        return JSONResponse(_shown(user), 201)

    return routes


async def _new_user(http: Request) -> NewUser:
    try:
        return protocol.convert(protocol.decode(await payload.read(http, _BODY_BYTES)), NewUser)
    except ClientDisconnect as error:
        raise InvalidRequest("The body did not arrive.") from error


def _shown(user: User) -> dict[str, Any]:
    return {
        "id": user.id,
        "username": user.username,
        "tenant": user.tenant,
        "role": user.role,
        "scopes": sorted(user.scopes),
        "may_leave": user.may_leave,
        "requests_per_minute": user.requests_per_minute,
        "disabled": user.disabled,
        "created_at": user.created_at.isoformat(),
    }


def _documented() -> dict[str, Any]:
    _, shapes = msgspec.json.schema_components([NewUser])
    schema = shapes[NewUser.__name__]
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}
