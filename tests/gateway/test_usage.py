"""Reports of the ledger: sums, who may see which, and the commands."""

import csv
import io
import json
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import combinations
from pathlib import Path
from typing import Any, get_args

import aiohttp
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, insert, select
from sqlalchemy.ext.asyncio import AsyncEngine

from auth.audit import SYSTEM
from auth.principal import HOUSE, SCOPES_OF_ROLE, scopes_of
from auth.tables import audit
from gateway import erasure, reports
from gateway.exchange import Outcome, State
from gateway.investment import investment
from gateway.ledger import rows
from gateway.money import Tariff
from gateway.outbox import rows as alerts
from gateway.usage import FIGURES, Group, Period, Usage, report, total
from tests.gateway.books import NOW, TARGETS, TARIFF, Book, attempt
from tests.house import MODEL, House, house

MAY = Period(date(2030, 5, 1), date(2030, 6, 1))


@pytest.fixture
async def book(engine: AsyncEngine, tmp_path: Path) -> Book:
    made = Book(engine, tmp_path)
    await made.ledger.create_schema()
    return made


EXCHANGES = st.lists(
    st.tuples(
        st.sampled_from([State.COMPLETED, State.TRUNCATED, State.CLIENT_CLOSED, State.FAILED, State.REFUSED]),
        st.lists(st.tuples(st.sampled_from(sorted(TARGETS)), st.sampled_from(list(Outcome)), st.floats(0, 50)), max_size=3),
        st.sampled_from(["acme", "globex"]),
        st.sampled_from(["alice", "bob"]),
        st.sampled_from([None, "k"]),
        st.sampled_from(["m", "n"]),
        st.integers(-40, 40),
    ),
    max_size=12,
)  # fmt: skip


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(EXCHANGES)
async def test_however_they_are_grouped_the_sums_are_the_same(engine: AsyncEngine, book: Book, made: Any) -> None:
    async with engine.begin() as connection:
        await connection.execute(delete(rows))
    for state, attempts, tenant, subject, key, model, days in made:
        book.at = NOW + timedelta(days=days)
        tries = [attempt(*one) for one in attempts]
        await book.write(book.exchange(state, *tries, tenant=tenant, subject=subject, key=key, model=model))
    whole = total(await report(engine, MAY, []))
    assert whole.requests == sum(
        date(2030, 5, 1) <= (NOW + timedelta(days=row[-1])).date() < date(2030, 6, 1) for row in made
    )
    for size in (1, 2):
        for by in combinations(get_args(Group), size):
            sums = total(await report(engine, MAY, by))
            assert abs(sums.gpu_hours - whole.gpu_hours) < Decimal("0.0001")
            exact = [name for name in FIGURES if name != "gpu_hours"]
            assert [getattr(sums, name) for name in exact] == [getattr(whole, name) for name in exact]


async def test_days_are_those_of_utc_and_the_period_ends_before_until(engine: AsyncEngine, book: Book) -> None:
    for at in ("2030-05-05T23:59:59", "2030-05-06T00:00:00", "2030-05-06T23:59:59", "2030-05-07T00:00:00"):
        book.at = datetime.fromisoformat(at).replace(tzinfo=UTC)
        await book.write(book.exchange(State.REFUSED))
    found = await report(engine, Period(date(2030, 5, 5), date(2030, 5, 7)), ["day"])
    assert [(row.group["day"], row.requests, row.refusals) for row in found] == [
        ("2030-05-05", 1, 1),
        ("2030-05-06", 2, 2),
    ]


async def test_an_empty_ledger_gives_an_empty_report(engine: AsyncEngine, book: Book) -> None:
    made = await reports.make(engine, TARIFF, MAY, ["tenant"], NOW)
    assert (made.rows, total(made.rows).requests, made.notes) == ([], 0, [])
    assert "total" in made.table()
    assert made.csv().startswith("tenant,requests,")


def sums(target: str, hours: str, cost: str, avoided: str) -> Usage:
    return Usage({"target": target}, gpu_hours=Decimal(hours), cost=Decimal(cost), avoided=Decimal(avoided))


def test_the_return_on_investment_by_hand() -> None:
    # Two machines at 1.8 for 100 hours are 360; 50 of 200 hours busy are 25 %; 500 avoided less 360 less 40 are 100.
    by_target = [sums("own", "50", "90", "500"), sums("outside", "0", "40", "0"), sums("free", "7", "0", "0")]
    made = investment(by_target, TARGETS, Decimal(100))
    assert [made.gpu, made.fallback, made.avoided, made.gpu_hours, made.returned] == [
        Decimal(n) for n in (360, 40, 500, 50, 100)
    ]
    assert made.utilisation == Decimal("0.25")
    assert made.break_even == Decimal("0.2")  # at 20 % of the hours 400 would be avoided, what everything costs
    nothing = investment([], {"free": TARGETS["free"]}, Decimal(100))
    assert (nothing.returned, nothing.utilisation, nothing.break_even) == (Decimal(0), None, None)


async def test_what_the_sums_leave_out_is_said(engine: AsyncEngine, book: Book) -> None:
    await book.write(*(book.exchange(State.COMPLETED, attempt(target)) for target in ("free", "gone", "own")))
    made = await reports.make(engine, Tariff(TARGETS, None), MAY, ["target"], NOW)
    assert made.notes == [
        "free: without price or price_per_hour, so nothing of it is in the cost.",
        "gone: no longer configured, so the hours of its machines are not in the return.",
        "money.reference names no target with a price, so nothing counts as avoided.",
    ]


async def test_a_name_that_a_spreadsheet_would_take_for_a_formula_is_none(engine: AsyncEngine, book: Book) -> None:
    await book.write(book.exchange(State.REFUSED, model='=HYPERLINK("http://evil")'))
    made = await reports.make(engine, TARIFF, MAY, ["model"], NOW)
    (row,) = csv.DictReader(io.StringIO(made.csv()))
    assert row["model"] == '\'=HYPERLINK("http://evil")'


async def test_erasure_takes_what_it_is_told_and_leaves_an_audit(engine: AsyncEngine, book: Book) -> None:
    for number in range(30):
        book.at = NOW - timedelta(days=number)
        who = {"tenant": "acme" if number % 2 else "globex", "subject": "alice" if number % 3 else "bob"}
        await book.write(book.exchange(State.COMPLETED, attempt(outcome=Outcome.DRIFTED), attempt(), **who))
    assert await erasure.trim(engine, NOW - timedelta(days=19, hours=1), SYSTEM) == 20
    assert await erasure.count(engine, "acme", "bob") == 6
    assert await erasure.forget(engine, "acme", "bob", SYSTEM) == 6
    assert await erasure.forget(engine, "acme", None, SYSTEM) == 14
    left = await report(engine, Period(date(2030, 1, 1), date(2031, 1, 1)), ["tenant"])
    assert [(row.group["tenant"], row.requests) for row in left] == [("globex", 10)]
    async with engine.connect() as connection:
        written = (await connection.execute(select(audit).order_by(audit.c.id))).mappings().all()
    assert [(row["action"], row["tenant"], row["object"], json.loads(row["detail"])) for row in written] == [
        ("ledger.trimmed", HOUSE, "before:2030-04-17", {"rows": 20}),
        ("ledger.forgotten", "acme", "subject:bob", {"rows": 6}),
        ("ledger.forgotten", "acme", "tenant:acme", {"rows": 14}),
    ]


async def test_the_rows_of_a_key_are_forgotten_by_its_id_and_alerts_with_them(engine: AsyncEngine, book: Book) -> None:
    of_key = [book.exchange(State.REFUSED, key="key-1", subject="alice") for _ in range(3)]
    await book.write(*of_key, book.exchange(State.REFUSED, subject="alice"))
    async with engine.begin() as connection:
        for scope, name in (("key", "key-1"), ("user", "acme/alice"), ("tenant", "acme"), ("user", "globex/alice")):
            crossing = {"scope": scope, "name": name, "measure": "m", "window": "w", "percent": 80}
            letter = {"receiver": "r", "message": "x", "at": NOW, "body": "{}", "tries": 0, "next_try": None}
            await connection.execute(insert(alerts).values({**letter, **crossing}))

    async def left() -> list[str]:
        async with engine.connect() as connection:
            return sorted((await connection.execute(select(alerts.c.name))).scalars())

    assert await erasure.forget(engine, "acme", "key-1", SYSTEM) == 3
    assert await left() == ["acme", "acme/alice", "globex/alice"]
    assert await erasure.forget(engine, "acme", None, SYSTEM) == 1
    assert await left() == ["globex/alice"]
    assert await erasure.forget(engine, "nobody", None, SYSTEM) == 0


async def test_hours_before_the_first_request_cost_nothing(engine: AsyncEngine, book: Book) -> None:
    book.at = datetime(2030, 5, 31, 22, tzinfo=UTC)
    await book.write(book.exchange(State.COMPLETED, attempt()))
    made = await reports.make(engine, TARIFF, MAY, ["tenant"], datetime(2030, 7, 1, tzinfo=UTC))
    assert made.investment
    assert (made.investment.hours, made.investment.gpu) == (
        Decimal(2),
        Decimal("7.2"),
    )  # two machines at 1.8 for two hours


async def test_erasure_goes_on_until_all_are_gone(
    engine: AsyncEngine, book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(erasure, "_AT_ONCE", 4)
    await book.write(*(book.exchange(State.REFUSED) for _ in range(9)))
    assert await erasure.forget(engine, "acme", None, SYSTEM) == 9


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[House]:
    money = {"currency": "CHF", "reference": "outside"}
    targets = {"outside": {"price": {"input": "1000", "output": "2000"}}, "local": {"price_per_hour": "3600"}}
    async with house(tmp_path, money=money, targets=targets) as running:
        yield running


async def asked(home: House, times: int = 1, **who: Any) -> None:
    client = home.client(**who)
    for _ in range(times):
        question: Any = [{"role": "user", "content": "Bonjour"}]
        raw = await client.chat.completions.with_raw_response.create(model=MODEL, messages=question)
        await home.ledger(raw.headers["x-request-id"])


async def get(home: House, path: str, token: str, **params: Any) -> tuple[int, Any, str]:
    headers = {"authorization": f"Bearer {token}"}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.get(f"{home.url}{path}", params=params) as answer,
    ):
        text = await answer.text()
        return (
            answer.status,
            json.loads(text) if answer.content_type == "application/json" else text,
            answer.content_type,
        )


def operator(home: House, tenant: str = "acme") -> str:
    return home.token("olga", tenant=tenant, scopes=scopes_of("operator", tenant))


async def test_operators_see_their_tenant_and_those_of_the_house_see_all(home: House) -> None:
    await asked(home, 2)
    await asked(home, 1, tenant="globex", subject="gus")
    _, of_acme, _ = await get(home, "/admin/usage", operator(home))
    assert [(row["tenant"], row["requests"]) for row in of_acme["data"]] == [("acme", 2)]
    assert of_acme["total"]["prompt_tokens"] == 14
    assert of_acme["total"]["avoided"] == "0.022"  # 2 × (7 × 1000 + 2 × 2000) / 10^6
    assert (of_acme["currency"], of_acme["notes"], "investment" in of_acme) == ("CHF", [], False)
    assert Decimal(of_acme["total"]["cost"]) > 0
    _, of_all, _ = await get(home, "/admin/usage", operator(home, HOUSE), by=["tenant", "user"])
    assert [(row["tenant"], row["user"], row["requests"]) for row in of_all["data"]] == [
        ("acme", "alice", 2),
        ("globex", "gus", 1),
    ]
    assert Decimal(of_all["investment"]["gpu"]) > 0
    assert (await get(home, "/admin/usage", operator(home), tenant="globex"))[0] == 403
    member = home.token("mia", scopes=SCOPES_OF_ROLE["member"])
    assert (await get(home, "/admin/usage", member))[0] == 403


async def test_callers_see_their_own_and_nothing_else(home: House) -> None:
    await asked(home, 1)
    await asked(home, 2, subject="bob")
    await asked(home, 4, tenant="globex", subject="bob")
    _, own, _ = await get(home, "/v1/usage", home.token("bob"), by="model")
    assert [(row["model"], row["requests"]) for row in own["data"]] == [(MODEL, 2)]
    assert "investment" not in own
    assert (await get(home, "/v1/usage", home.token("bob"), by="tenant"))[0] == 400


async def test_csv_and_mistakes(home: House) -> None:
    await asked(home, 1)
    status, text, kind = await get(home, "/admin/usage", operator(home), format="csv", by="model")
    assert (status, kind) == (200, "text/csv")
    assert [row["model"] for row in csv.DictReader(io.StringIO(text))] == [MODEL]
    for params, param in (
        ({"since": "yesterday"}, "since"),
        ({"since": "2030-05-02", "until": "2030-05-02"}, "until"),
        ({"since": "1990-01-01", "until": "2030-05-02"}, "since"),
        ({"by": "colour"}, "by"),
        ({"format": "xml"}, "format"),
        ({"month": "2030-13"}, "month"),
        ({"month": "2030-05", "since": "2030-05-02"}, "month"),
    ):
        status, body, _ = await get(home, "/admin/usage", operator(home), **params)
        assert (status, body["error"]["type"]) == (400, "invalid_request_error")
        assert body["error"]["param"] == param
