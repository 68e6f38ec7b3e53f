"""`/admin/status`: what `passerelle top` shows."""

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Response

from auth import Principal
from auth.principal import TENANTS
from auth.rights import seen
from auth.routes import NO_STORE
from gateway.access import Access
from gateway.administration.http import OfTenant
from gateway.documented import LIST, Answers, Schema, answers
from gateway.status.report import Status
from gateway.status.worker import Statuses


def router(statuses: Statuses, access: Access) -> APIRouter:
    """The route."""
    routes = APIRouter(prefix="/admin/status", tags=["admin"])
    Caller = Annotated[Principal, Depends(access)]  # noqa: N806  # a type

    @routes.get("", summary="Live requests, limits, queues and replicas, of all workers", responses=_answers())
    async def status(caller: Caller, tenant: OfTenant = None) -> Response:
        found = await statuses.make(seen(caller, tenant), whole=TENANTS in caller.scopes)
        return Response(msgspec.json.encode(found), media_type="application/json", headers=NO_STORE)

    return routes


def _answers() -> Answers:
    schema, shapes = msgspec.json.schema_components([Status])
    return answers(200, *LIST, of=_whole(shapes[schema[0]["$ref"].rpartition("/")[2]], shapes))


def _whole(part: Any, shapes: dict[str, Any]) -> Any:
    """A schema without references: the document's own components are FastAPI's."""
    if isinstance(part, list):
        return [_whole(item, shapes) for item in part]
    if not isinstance(part, dict):
        return part
    if "$ref" in part:
        return _whole(shapes[part["$ref"].rpartition("/")[2]], shapes)
    schema: Schema = {key: _whole(value, shapes) for key, value in part.items() if key != "default"}
    return schema
