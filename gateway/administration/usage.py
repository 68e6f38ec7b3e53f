"""`/admin/usage` for operators, `/v1/usage` for each caller's own."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Response
from fastapi.responses import JSONResponse
from sqlalchemy.ext.asyncio import AsyncEngine

from auth import Principal
from auth.principal import USAGE
from auth.rights import seen
from auth.routes import NO_STORE
from gateway import documented, reports
from gateway.access import Access
from gateway.administration.http import OfTenant
from gateway.errors import InvalidRequest
from gateway.money import Tariff
from gateway.usage import Group, Period

_LONGEST_DAYS = 3660

_DAY = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$"
_IS_DAY: dict[str, Any] = {"pattern": _DAY, "json_schema_extra": {"format": "date"}, "examples": ["2026-11-01"]}
Since = Annotated[str | None, Query(description="The first day, UTC; by default the first of this month.", **_IS_DAY)]
Until = Annotated[str | None, Query(description="The day after the last one, UTC; by default tomorrow.", **_IS_DAY)]
Month = Annotated[
    str | None,
    Query(description="One month, in place of both.", pattern=r"^[0-9]{4}-[0-9]{2}$", examples=["2026-11"]),
]
By = Annotated[list[Group] | None, Query(description="What the sums are for; repeatable.")]
Own = Annotated[list[Literal["day", "key", "model"]] | None, Query(description="What the sums are for; repeatable.")]
OfUser = Annotated[str | None, Query(max_length=255, description="Of one user or client, by its id.")]
Form = Annotated[Literal["json", "csv"], Query(description="How the answer is written.")]


def router(engine: AsyncEngine, tariff: Callable[[], Tariff], access: Access) -> APIRouter:
    """The routes; `tariff` gives the prices and targets that hold now."""
    routes = APIRouter()
    Caller = Annotated[Principal, Depends(access)]  # noqa: N806  # a type

    @routes.get(
        "/admin/usage",
        tags=["admin"],
        summary="Tokens, requests and money of a tenant, or of all, and the return on investment",
        responses=documented.USAGE_REPORT,
    )
    async def usage(
        caller: Caller,
        since: Since = None,
        until: Until = None,
        month: Month = None,
        by: By = None,
        tenant: OfTenant = None,
        user: OfUser = None,
        format: Form = "json",  # noqa: A002  # the parameter's name
    ) -> Response:
        of = seen(caller, tenant)
        made = await reports.make(
            engine, tariff(), _period(since, until, month), by or ["tenant"], datetime.now(UTC), tenant=of, subject=user
        )
        return _answer(made, format)

    @routes.get(
        "/v1/usage",
        tags=["openai"],
        summary="The caller's own tokens, requests and money",
        responses=documented.OWN_USAGE_REPORT,
    )
    async def own(
        caller: Caller, since: Since = None, until: Until = None, month: Month = None, by: Own = None
    ) -> Response:
        caller.require(USAGE)
        groups: list[Any] = [*(by or ["day", "model"])]
        made = await reports.make(
            engine,
            tariff(),
            _period(since, until, month),
            groups,
            datetime.now(UTC),
            tenant=caller.tenant,
            subject=caller.subject,
        )
        return _answer(made, "json")

    return routes


def _day(name: str, text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise InvalidRequest(
            f"{name} must be a day or month of the calendar, as 2026-11-01 or 2026-11.", param=name
        ) from error


def _answer(made: reports.Report, form: str) -> Response:
    if form == "csv":
        name = f"usage-{made.period.since}-{made.period.until}.csv"
        return Response(
            made.csv(),
            media_type="text/csv; charset=utf-8",
            headers={**NO_STORE, "content-disposition": f'attachment; filename="{name}"'},
        )
    return JSONResponse(made.document(), headers=NO_STORE)


def _period(first: str | None, after: str | None, month: str | None) -> Period:
    if month is not None:
        if first or after:
            raise InvalidRequest("month goes without since and until.", param="month")
        return Period.of_month(_day("month", f"{month}-01"))
    since = None if first is None else _day("since", first)
    until = None if after is None else _day("until", after)
    usual = Period.this_month(datetime.now(UTC))
    if until is None:
        until = usual.until if since is None or since < usual.until else since + timedelta(days=1)
    if since is None:
        since = min(usual.since, (until - timedelta(days=1)).replace(day=1))
    if not since < until:
        raise InvalidRequest("until is the day after the last one: it must come after since.", param="until")
    if (until - since).days > _LONGEST_DAYS:
        raise InvalidRequest(f"A report covers {_LONGEST_DAYS} days at most.", param="since")
    return Period(since, until)
