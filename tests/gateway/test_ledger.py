from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.exchange import Attempt, Exchange, Finding, Outcome, State
from gateway.journal import Journal
from gateway.ledger import Ledger, entries, rows
from gateway.money import UNIT, Tariff

FREE = Tariff({}, None)
NOW = datetime(2030, 5, 6, 7, 8, 9, 123456, tzinfo=UTC)


def attempt(outcome: Outcome, tokens: int, *, target: str = "local", reason: str | None = None) -> Attempt:
    made = Attempt(target, firm=False, outcome=outcome, reason=reason)
    if tokens:
        made.count({"prompt_tokens": 10, "completion_tokens": tokens}, prompt_estimate=int, deltas=0)
    return made


def exchange(state: State, *attempts: Attempt, status: int = 200, **fields: Any) -> Exchange:
    ended: dict[str, Any] = {
        "model": "m",
        "first_text": 100.5,
        "ended": 102.25,
        "error": None,
        "id": "e" * 32,
        **fields,
    }
    return Exchange(
        request_id="req", started=100.0, tenant="acme", subject="alice", state=state, status=status,
        attempts=list(attempts), **ended,
    )  # fmt: skip


SERVED = attempt(Outcome.SERVED, 5)
LEFT = attempt(Outcome.ABANDONED, 2)
DRIFTED = attempt(Outcome.DRIFTED, 7, reason="language")
FAILED = attempt(Outcome.FAILED, 0, reason="status 500")
FAILED_LATE = attempt(Outcome.FAILED, 3, reason="cut")
OTHER = attempt(Outcome.SERVED, 4, target="gpt")


@pytest.mark.parametrize(
    ("state", "attempts", "written"),
    [
        pytest.param(State.REFUSED, [], [("release", "", 0)], id="refused before a model was asked"),
        pytest.param(State.FAILED, [FAILED], [("fallback", "local", 0), ("release", "", 0)], id="one target failed"),
        pytest.param(
            State.FAILED,
            [FAILED, FAILED_LATE],
            [("fallback", "local", 0), ("fallback", "local", 3), ("release", "", 0)],
            id="every target failed",
        ),
        pytest.param(State.FAILED, [LEFT], [("release", "local", 2)], id="the target blamed the request"),
        pytest.param(State.CLIENT_CLOSED, [], [("release", "", 0)], id="the client left before a model was asked"),
        pytest.param(State.CLIENT_CLOSED, [LEFT], [("settle", "local", 2)], id="the client left while it answered"),
        pytest.param(
            State.CLIENT_CLOSED,
            [DRIFTED, LEFT],
            [("regeneration", "local", 7), ("settle", "local", 2)],
            id="the client left during the repair",
        ),
        pytest.param(State.TRUNCATED, [SERVED], [("settle", "local", 5)], id="cut after the commit"),
        pytest.param(State.BLOCKED, [SERVED], [("settle", "local", 5)], id="blocked by a guard"),
        pytest.param(
            State.BLOCKED,
            [DRIFTED, DRIFTED],
            [("regeneration", "local", 7), ("regeneration", "local", 7), ("release", "", 0)],
            id="every answer drifted, ours was sent",
        ),
        pytest.param(State.COMPLETED, [SERVED], [("settle", "local", 5)], id="completed"),
        pytest.param(
            State.COMPLETED, [FAILED, OTHER], [("fallback", "local", 0), ("settle", "gpt", 4)], id="by the fallback"
        ),
        pytest.param(
            State.COMPLETED,
            [DRIFTED, SERVED],
            [("regeneration", "local", 7), ("settle", "local", 5)],
            id="by the repair",
        ),
    ],
)
def test_each_way_out_is_billed_as_the_policy_says(
    state: State, attempts: list[Attempt], written: list[tuple[str, str, int]]
) -> None:
    made = entries(exchange(state, *attempts, error="code"), NOW, FREE)
    assert [(row["kind"], row["target"], row["completion_tokens"]) for row in made] == written
    assert [row["sequence"] for row in made] == list(range(len(made)))
    assert {row["state"] for row in made} == {state.value}
    assert made[-1]["error"] == "code"


def test_a_row_says_who_asked_what_when_and_how_long_it_took() -> None:
    (row,) = entries(
        exchange(State.COMPLETED, SERVED, guards={"language": Finding("passed"), "terms": Finding("off")}), NOW, FREE
    )
    assert row == {
        "exchange_id": "e" * 32, "sequence": 0, "request_id": "req", "at": NOW.isoformat(), "kind": "settle",
        "tenant": "acme", "subject": "alice", "model": "m", "target": "local", "state": "completed", "status": 200,
        "prompt_tokens": 10, "completion_tokens": 5, "usage_source": "upstream", "seconds": 2.25,
        "first_text_seconds": 0.5, "guards": "language=passed; terms=off", "error": None,
        "key": None, "busy_seconds": 0.0, "cost": "0", "avoided": "0",
    }  # fmt: skip


def test_the_reason_of_a_lost_attempt_stays_with_its_row() -> None:
    made = entries(exchange(State.COMPLETED, FAILED_LATE, DRIFTED, OTHER), NOW, FREE)
    assert [row["error"] for row in made] == ["cut", "language", None]


@pytest.fixture
def engine(bare_engine: AsyncEngine) -> AsyncEngine:
    return bare_engine


@pytest.fixture
async def ledger(engine: AsyncEngine, tmp_path: Path) -> Ledger:
    made = Ledger(engine, Journal(tmp_path / "journal"), now=lambda: NOW)
    await made.create_schema()
    return made


async def test_an_exchange_is_in_the_database_after_a_drain_and_the_journal_is_empty(
    ledger: Ledger, tmp_path: Path
) -> None:
    ledger.settle(exchange(State.COMPLETED, DRIFTED, SERVED))
    assert await ledger.of("req") == []
    await ledger.drain()
    found = await ledger.of("req")
    assert [(row["kind"], row["at"]) for row in found] == [("regeneration", NOW), ("settle", NOW)]
    assert list((tmp_path / "journal").iterdir()) == []


async def test_draining_the_same_rows_twice_changes_nothing(ledger: Ledger, tmp_path: Path) -> None:
    ledger.settle(exchange(State.COMPLETED, SERVED))
    (segment,) = (tmp_path / "journal").iterdir()
    content = segment.read_bytes()
    await ledger.drain()
    before = await ledger.of("req")
    # As if the process had been killed between the database's commit and the journal's deletion.
    segment.write_bytes(content + content.replace(b'"req"', b'"new"'))
    await ledger.drain()
    assert await ledger.of("req") == before
    assert await ledger.of("new") == []
    assert not segment.exists()


async def test_the_rows_of_a_killed_worker_are_drained_by_the_next(engine: AsyncEngine, tmp_path: Path) -> None:
    await Ledger(engine, Journal(tmp_path), now=lambda: NOW).create_schema()
    killed = Journal(tmp_path)
    killed.append(entries(exchange(State.COMPLETED, SERVED), NOW, FREE))
    killed.close()
    successor = Ledger(engine, Journal(tmp_path))
    await successor.drain()
    assert [row["kind"] for row in await successor.of("req")] == ["settle"]


async def test_while_the_table_is_away_nothing_is_lost(engine: AsyncEngine, tmp_path: Path) -> None:
    waiting = Ledger(engine, Journal(tmp_path / "journal"), now=lambda: NOW)
    waiting.settle(exchange(State.COMPLETED, SERVED))
    with pytest.raises(SQLAlchemyError):
        await waiting.drain()
    waiting.settle(exchange(State.FAILED, FAILED, id="f" * 32))
    await waiting.create_schema()
    await waiting.drain()
    assert [row["kind"] for row in await waiting.of("req")] == ["settle", "fallback", "release"]


async def test_no_text_from_outside_holds_up_the_rows_behind_it(ledger: Ledger, engine: AsyncEngine) -> None:
    hostile = exchange(State.COMPLETED, attempt(Outcome.SERVED, 5, reason="x" * 500), model="m\0" + "é" * 300)
    hostile.error, hostile.guards = "y" * 500, {"g": Finding("z" * 600)}
    hostile.attempts[0].count({"prompt_tokens": 2**70, "completion_tokens": "5"}, prompt_estimate=int, deltas=0)
    ledger.settle(hostile)
    ledger.settle(exchange(State.COMPLETED, SERVED, id="f" * 32))
    await ledger.drain()
    async with engine.connect() as connection:
        models = (await connection.execute(select(rows.c.model).order_by(rows.c.exchange_id))).scalars().all()
    assert models == [("m" + "é" * 300)[:256], "m"]


async def test_lines_of_another_version_and_of_another_clock_are_rows_like_any_others(
    ledger: Ledger, engine: AsyncEngine, tmp_path: Path
) -> None:
    (line,) = entries(exchange(State.COMPLETED, SERVED, key="k"), NOW, FREE)
    earlier = {name: line[name] for name in line if name not in ("key", "busy_seconds", "cost", "avoided")}
    late = {"at": "2030-05-06T09:08:10+02:00", "cost": "1e30", "avoided": "0.000000000001", "later": "?", "sequence": 1}
    other = Journal(tmp_path / "journal")
    other.append([earlier, {**line, **late}])
    other.close()
    ledger.settle(exchange(State.COMPLETED, SERVED, id="f" * 32))  # as it should be, and in another segment
    await ledger.drain()
    first, second = (row for row in await ledger.of("req") if row["exchange_id"] == "e" * 32)
    assert (first["key"], first["busy_seconds"], first["cost"], first["avoided"]) == (None, 0.0, Decimal(0), Decimal(0))
    assert (second["at"], second["key"]) == (NOW.replace(second=10, microsecond=0), "k")
    assert (second["cost"], second["avoided"]) == ((2**63 - 1) * UNIT, UNIT)
    # As the database's own tools see it, and as what SQLAlchemy itself writes there is compared.
    since = select(rows.c.sequence).where(rows.c.at >= NOW, rows.c.exchange_id == "e" * 32).order_by(rows.c.sequence)
    async with engine.connect() as connection:
        assert (await connection.execute(since)).scalars().all() == [0, 1]
        assert (await connection.execute(since.where(rows.c.at > NOW))).scalars().all() == [1]


async def test_more_rows_than_one_statement_takes_are_each_there_once(ledger: Ledger, engine: AsyncEngine) -> None:
    for number in range(1203):
        ledger.settle(exchange(State.COMPLETED, SERVED, id=f"{number % 1201:032x}"))
    await ledger.drain()
    async with engine.connect() as connection:
        assert (await connection.execute(select(func.count()).select_from(rows))).scalar() == 1201


async def test_rows_come_back_by_request_and_in_order(ledger: Ledger) -> None:
    for number in range(3):
        ledger.settle(exchange(State.COMPLETED, DRIFTED, SERVED, id=str(2 - number) * 32))
    await ledger.drain()
    found = await ledger.of("req")
    assert [(row["exchange_id"][0], row["sequence"]) for row in found] == [
        ("0", 0), ("0", 1), ("1", 0), ("1", 1), ("2", 0), ("2", 1),
    ]  # fmt: skip
    assert all(row["at"].utcoffset() == timedelta(0) for row in found)
    assert await ledger.of("other") == []
