"""How receivers are told: until they take it, signed, and without a word of their addresses in a log."""

import base64
import hashlib
import hmac
import logging
import random
import socket
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import SecretStr
from sqlalchemy.ext.asyncio import AsyncEngine
from structlog.testing import capture_logs

from auth import schema
from gateway.alerts import Schedule
from gateway.ledger import LINEAGE
from gateway.webhooks import Alerting, headers
from tests.gateway.inbox import DROP, HANG, MONTH, SECRET, done, inbox, logged, running, worker


async def test_a_dead_receiver_brings_the_other_no_repeats_and_no_delay(ready_engine: AsyncEngine) -> None:
    patient = Schedule(first=0.02, longest=0.05, tries=1000, limit=20, look=0.02)
    async with (
        inbox(always=HANG) as dead,
        inbox() as alive,
        running(worker(ready_engine, dead.url, alive.url, schedule=patient)) as alerts,
    ):
        alerts.spent(*MONTH, 100, 100)
        await alive.until(taken=2)
        assert len(dead.posts) <= 1
        dead.always = 500
        dead.closing.set()
        await dead.until(4)
    assert alive.told() == [("alice", "2026-11", 80), ("alice", "2026-11", 100)]
    assert len(alive.posts) == 2


@pytest.mark.parametrize("answer", [500, 404, 301, 307, 429, HANG, DROP])
async def test_an_alert_is_sent_until_the_receiver_takes_it_and_is_the_same_each_time(
    ready_engine: AsyncEngine, answer: int
) -> None:
    async with inbox(answer, answer) as receiver, running(worker(ready_engine, receiver.url)) as alerts:
        alerts.spent(*MONTH, 85, 100)
        await receiver.until(3)
        (row,) = await done(ready_engine, 1)
    assert len(receiver.posts) == row["tries"] == 3
    assert row["sent_at"] is not None
    assert len({(sent["webhook-id"], body) for sent, body in receiver.posts}) == 1


async def test_a_receiver_that_is_not_there_yet_is_told_when_it_comes(ready_engine: AsyncEngine) -> None:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    with capture_logs() as logs:
        async with running(worker(ready_engine, f"http://127.0.0.1:{port}/hook")) as alerts:
            alerts.spent(*MONTH, 85, 100)
            await logged(logs, "alert_not_taken")
            async with inbox(port=port) as receiver:
                await done(ready_engine, 1)
    assert receiver.told() == [("alice", "2026-11", 80)]


async def test_an_alert_that_nobody_takes_is_given_up_with_an_error(ready_engine: AsyncEngine) -> None:
    schedule = Schedule(first=0.01, longest=0.01, tries=3, look=0.01)
    with capture_logs() as logs:
        async with (
            inbox(always=500) as receiver,
            running(worker(ready_engine, receiver.url, schedule=schedule)) as alerts,
        ):
            alerts.spent(*MONTH, 85, 100)
            (row,) = await done(ready_engine, 1)
            assert row["sent_at"] is None
            alerts.spent("user", "bob", "money_per_month", "2026-11", 85, 100)
            await done(ready_engine, 2)
    assert len(receiver.posts) == 6
    (told, _) = [entry for entry in logs if entry["event"] == "alert_given_up"]
    assert (told["log_level"], told["reason"], told["tries"], told["receiver"]) == ("error", "status 500", 3, 0)


def test_the_waits_double_up_to_an_hour_and_last_three_days() -> None:
    schedule, chance = Schedule(), random.Random
    longest = [max(schedule.wait(tries, chance(seed)) for seed in range(300)) for tries in range(1, 12)]
    doubled = [5, 10, 20, 40, 80, 160, 320, 640, 1280, 2560, 3600]
    assert all(0.97 * n < wait.total_seconds() <= n for n, wait in zip(doubled, longest, strict=True))
    assert schedule.wait(10_000, chance(1)) <= timedelta(hours=1)
    waits = [schedule.wait(tries, chance(tries)) for tries in range(1, schedule.tries)]
    assert timedelta(days=2.5) < sum(waits, timedelta()) < timedelta(days=3.5)


def test_the_signature_is_that_of_the_specification() -> None:
    # The example of https://docs.svix.com/receiving/verifying-payloads/how-manual, whose scheme Standard Webhooks took over.
    signed = headers(
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        datetime.fromtimestamp(1614265330, UTC),
        b'{"test": 2432232314}',
        SecretStr(SECRET),
    )
    assert signed["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert signed["webhook-timestamp"] == "1614265330"


async def test_what_arrives_carries_a_signature_that_holds(ready_engine: AsyncEngine) -> None:
    async with inbox(500) as receiver, running(worker(ready_engine, receiver.url, secret=SECRET)) as alerts:
        alerts.spent(*MONTH, 85, 100)
        await receiver.until(2)
    for sent, body in receiver.posts:
        content = f"{sent['webhook-id']}.{sent['webhook-timestamp']}.".encode() + body
        key = base64.b64decode(SECRET.removeprefix("whsec_"))
        expected = base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()
        assert sent["webhook-signature"] == f"v1,{expected}"
        assert abs(int(sent["webhook-timestamp"]) - datetime.now(UTC).timestamp()) < 30


async def test_addresses_and_secrets_are_never_logged(
    bare_engine: AsyncEngine, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    schedule = Schedule(first=0.01, longest=0.01, tries=2, limit=0.3, look=0.01)
    with capture_logs() as logs:
        async with inbox(500, DROP, 307) as receiver:
            url = receiver.url.replace("//", "//user:hunter2@") + "/hunter3?token=hunter4"
            lost = "http://hunter5.invalid/hunter3"
            alerts = worker(bare_engine, url, lost, secret=SECRET, schedule=schedule)
            alerts.spent(*MONTH, 85, 100)
            async with running(alerts):
                await logged(logs, "alerts_wait", "outbox_away")
                await schema.prepare(bare_engine, LINEAGE)
                found = await done(bare_engine, 2)
            later = worker(bare_engine, url, secret=SECRET)
            later.spent(*MONTH, 100, 100)
            async with running(later):
                await logged(logs, "alert_sent")
    events = {entry["event"] for entry in logs}
    assert {"alerts_wait", "outbox_away", "alert_not_taken", "alert_given_up", "alert_sent"} <= events
    shown = [
        str(logs),
        str(found),
        repr(Alerting.model_validate({"urls": [url], "secret": SECRET})),
        repr(vars(alerts)),
    ]
    shown += [
        record.getMessage()
        for record in caplog.records
        if record.name.startswith(("gateway", "aiohttp.client", "asyncio"))
    ]
    for secret in ("hunter", SECRET, SECRET.removeprefix("whsec_")):
        assert not [text for text in shown if secret in text]
    assert receiver.posts[0][0]["authorization"].startswith("Basic ")
