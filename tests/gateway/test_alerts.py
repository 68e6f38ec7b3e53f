"""Alerts at 80 and 100 % of a budget: each once, whatever becomes of workers and of the database."""

import asyncio
from collections import Counter
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncEngine
from structlog.testing import capture_logs

from auth import database, schema
from gateway.ledger import LINEAGE
from gateway.outbox import Crossing, Letter, Outbox, fitting, rows
from tests.gateway.inbox import MONTH, NOW, SECRET, done, inbox, logged, running, until, worker, written
from tests.house import house


async def test_an_alert_says_what_is_spent_of_which_budget_and_money_is_exact(ready_engine: AsyncEngine) -> None:
    async with inbox() as receiver, running(worker(ready_engine, receiver.url, now=lambda: NOW)) as alerts:
        alerts.spent(*MONTH, Decimal("80.100000000000"), Decimal(100))
        alerts.spent("key", "k1", "tokens_per_day", "2026-11-26", 850, 1000)
        await receiver.until(taken=2)
    assert sorted(receiver.taken, key=lambda each: str(each["data"]["name"])) == [
        {
            "type": "budget.threshold",
            "timestamp": "2026-11-26T12:00:00+00:00",
            "data": {
                "scope": "user", "name": "alice", "measure": "money_per_month", "window": "2026-11", "percent": 80,
                "used": "80.1", "limit": "100", "currency": "EUR",
            },
        },
        {
            "type": "budget.threshold",
            "timestamp": "2026-11-26T12:00:00+00:00",
            "data": {
                "scope": "key", "name": "k1", "measure": "tokens_per_day", "window": "2026-11-26", "percent": 80,
                "used": 850, "limit": 1000, "currency": None,
            },
        },
    ]  # fmt: skip
    sent, _ = receiver.posts[0]
    assert (sent["content-type"], sent["user-agent"]) == ("application/json", "passerelle")
    assert not {"webhook-signature", "webhook-timestamp"} & set(sent)


@pytest.mark.parametrize(
    ("used", "limit", "percents"),
    [
        (79, 100, []),
        (Decimal("79.999999999999"), Decimal(100), []),
        (80, 100, [80]),
        (Decimal("99.999999999999"), 100, [80]),
        (100, 100, [80, 100]),
        (10**30, Decimal("1e-12"), [80, 100]),
        (0, 0, []),
        (5, 0, []),
    ],
)
async def test_a_threshold_is_crossed_when_it_is_reached(
    tmp_path: Path, used: Decimal | int, limit: Decimal | int, percents: list[int]
) -> None:
    opened = database.engine(f"sqlite:///{tmp_path}/x.db")
    await schema.prepare(opened, LINEAGE)
    alerts = worker(opened, "http://127.0.0.1:9/")
    alerts.spent(*MONTH, used, limit)
    await alerts.write()
    assert [row["percent"] for row in await written(opened)] == percents
    await opened.dispose()


async def test_a_jump_over_both_thresholds_tells_both_in_order(ready_engine: AsyncEngine) -> None:
    async with inbox() as receiver, running(worker(ready_engine, receiver.url)) as alerts:
        alerts.spent(*MONTH, 150, 100)
        await done(ready_engine, 2)
    assert [percent for _, _, percent in receiver.told()] == [80, 100]


async def test_the_thresholds_are_those_of_the_settings(ready_engine: AsyncEngine) -> None:
    async with inbox() as receiver, running(worker(ready_engine, receiver.url, percents=[50, 90])) as alerts:
        for used in (49, 50, 89, 90, 100):
            alerts.spent(*MONTH, used, 100)
        await done(ready_engine, 2)
    assert [(each["data"]["percent"], each["data"]["used"]) for each in receiver.taken] == [(50, "50"), (90, "90")]


async def test_two_workers_tell_each_threshold_once(database_url: str, ready_engine: AsyncEngine) -> None:
    second = database.engine(database_url)
    names = [f"u{number}" for number in range(15)]
    async with inbox() as receiver, AsyncExitStack() as stack:
        workers = [await stack.enter_async_context(running(worker(e, receiver.url))) for e in (ready_engine, second)]
        for used in (10, 85, 90, 120, 130):
            for name in names:
                for each in workers:
                    each.spent("user", name, "money_per_month", "2026-11", Decimal(used), Decimal(100))
                await asyncio.sleep(0)
        await done(ready_engine, 30)
    await second.dispose()
    assert Counter(receiver.told()) == {(name, "2026-11", percent): 1 for name in names for percent in (80, 100)}
    assert len({sent["webhook-id"] for sent, _ in receiver.posts}) == len(receiver.posts) == 30


async def test_many_workers_that_look_at_once_take_each_letter_once(ready_engine: AsyncEngine) -> None:
    alerts = worker(ready_engine, "http://127.0.0.1:9/")
    for number in range(10):
        alerts.spent("user", str(number), "money_per_month", "2026-11", 80, 100)
    await alerts.write()
    (receiver, *_) = {row["receiver"] for row in await written(ready_engine)}

    async def take_all() -> list[str]:
        taken, outbox = [], Outbox(ready_engine)
        while letter := await outbox.take(receiver, datetime.now(UTC), timedelta(minutes=1)):
            taken.append(letter.crossing.name)
        return taken

    taken = await asyncio.gather(*(take_all() for _ in range(4)))
    assert sorted(name for names in taken for name in names) == [str(number) for number in range(10)]


async def test_a_restart_does_not_tell_again_but_a_new_window_does(ready_engine: AsyncEngine) -> None:
    async with inbox() as receiver:
        async with running(worker(ready_engine, receiver.url)) as alerts:
            alerts.spent(*MONTH, 85, 100)
            await done(ready_engine, 1)
        async with running(worker(ready_engine, receiver.url)) as alerts:
            alerts.spent(*MONTH, 90, 100)
            alerts.spent("user", "alice", "money_per_month", "2026-12", 80, 100)
            await done(ready_engine, 2)
    assert receiver.told() == [("alice", "2026-11", 80), ("alice", "2026-12", 80)]


async def test_what_a_worker_left_behind_is_sent_by_the_next(ready_engine: AsyncEngine) -> None:
    async with inbox() as receiver:
        left = worker(ready_engine, receiver.url)
        left.spent(*MONTH, 85, 100)
        await left.close()
        async with running(worker(ready_engine, receiver.url)):
            await receiver.until(taken=1)
    assert receiver.told() == [("alice", "2026-11", 80)]


async def test_a_letter_that_was_taken_by_a_worker_that_died_is_taken_again_when_its_time_is_over(
    ready_engine: AsyncEngine,
) -> None:
    outbox, lease = Outbox(ready_engine), timedelta(seconds=60)
    await outbox.put([Letter(Crossing(*MONTH, 80), "r", "msg_1", NOW, "{}")])
    first = await outbox.take("r", NOW, lease)
    assert first is not None
    assert await outbox.take("r", NOW + lease - timedelta(seconds=1), lease) is None
    again = await outbox.take("r", NOW + lease, lease)
    assert again is not None
    assert (again.message, first.tries, again.tries) == ("msg_1", 1, 2)
    await outbox.sent(first, NOW)  # the first was only slow: the second's failure brings it back no more
    await outbox.again(again, NOW)
    assert await outbox.take("r", NOW + 9 * lease, lease) is None


async def test_what_is_crossed_while_the_database_is_away_is_told_when_it_is_back(bare_engine: AsyncEngine) -> None:
    with capture_logs() as logs:
        async with inbox() as receiver, running(worker(bare_engine, receiver.url)) as alerts:
            alerts.spent(*MONTH, 85, 100)
            await logged(logs, "alerts_wait")
            alerts.spent(*MONTH, 100, 100)
            await schema.prepare(bare_engine, LINEAGE)
            await done(bare_engine, 2)
    assert [percent for _, _, percent in receiver.told()] == [80, 100]


async def test_what_waits_for_the_database_is_bounded_and_what_finds_no_room_is_told_later(
    bare_engine: AsyncEngine,
) -> None:
    alerts = worker(bare_engine, "http://127.0.0.1:9/")
    for number in range(12_000):
        alerts.spent("user", str(number), "money_per_month", "2026-11", 80, 100)
    await schema.prepare(bare_engine, LINEAGE)
    await alerts.write()
    alerts.spent("user", "0", "money_per_month", "2026-11", 81, 100)
    alerts.spent("user", "11999", "money_per_month", "2026-11", 81, 100)
    await alerts.write()
    async with bare_engine.connect() as connection:
        assert await connection.scalar(select(func.count()).select_from(rows)) == 10_001


async def test_alerts_that_cannot_be_written_down_at_the_end_are_an_error_in_the_log(bare_engine: AsyncEngine) -> None:
    alerts = worker(bare_engine, "http://127.0.0.1:9/")
    alerts.spent(*MONTH, 100, 100)
    with capture_logs() as logs:
        await alerts.close()
    assert [(entry["event"], entry["alerts"]) for entry in logs] == [("alerts_lost", 2)]


async def test_no_name_from_outside_holds_up_the_alerts_behind_it(ready_engine: AsyncEngine) -> None:
    async with inbox() as receiver, running(worker(ready_engine, receiver.url)) as alerts:
        alerts.spent("user", "a\0" + "é" * 300, "money_per_month", "2026-11", 85, 100)
        alerts.spent("user", "half \ud800", "money_per_month", "2026-11", 85, 100)
        alerts.spent(*MONTH, 85, 100)
        await done(ready_engine, 3)
    assert {name for name, _, _ in receiver.told()} == {"a" + "é" * 255, "half ?", "alice"}


def test_a_crossing_that_fits_is_left_as_it_is() -> None:
    crossing = Crossing(*MONTH, 80)
    assert fitting(crossing) == crossing


async def test_what_belongs_to_windows_long_over_is_removed(ready_engine: AsyncEngine) -> None:
    outbox = Outbox(ready_engine)
    ages = (120, 99, 0)
    await outbox.put(
        [Letter(Crossing("user", str(age), "m", "w", 80), "r", "msg", NOW - timedelta(days=age), "{}") for age in ages]
    )
    async with running(worker(ready_engine, "http://127.0.0.1:9/", now=lambda: NOW)) as alerts:
        alerts.spent(*MONTH, 85, 100)

        async def forgotten() -> bool:
            return {row["name"] for row in await written(ready_engine)} == {"99", "0", "alice"}

        await until(forgotten)


async def test_without_an_address_nothing_runs_and_nothing_is_written(ready_engine: AsyncEngine) -> None:
    alerts = worker(ready_engine)
    alerts.spent(*MONTH, 100, 100)
    async with asyncio.timeout(5):
        await alerts.run()
    await alerts.close()
    assert await written(ready_engine) == []


async def test_the_gateway_sends_what_its_outbox_holds(tmp_path: Path) -> None:
    opened = database.engine(f"sqlite:///{tmp_path}/passerelle.db")
    await schema.prepare(opened, LINEAGE)
    async with inbox() as receiver:
        other = worker(opened, receiver.url)
        other.spent(*MONTH, 85, 100)
        await other.write()
        await opened.dispose()
        async with house(tmp_path, alerts={"urls": [receiver.url], "secret": SECRET}):
            await receiver.until(taken=1)
    assert "webhook-signature" in receiver.posts[0][0]
