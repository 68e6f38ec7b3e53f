"""SIGUSR2 and the death of workers, on real gateways under load: nothing is refused, nothing cut, and the ledger is whole."""

import asyncio
import json
import os
import secrets
import signal
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest

from tests.gateway.test_hangup import QUESTION, Gateway
from tests.gateway.test_stopping import WORKERS, body, endless, ends, file_of, ledger, running, session, stop
from tests.upstream import Exchange, chunk, pauses, says, upstream, usage

SENTENCE = "Voici une réponse tout à fait française. "


async def speaks(exchange: Exchange) -> None:
    """An answer of 0.4 s."""
    await exchange.head()
    for _ in range(4):
        await exchange.text(SENTENCE)
        await asyncio.sleep(0.1)
    await exchange.event(chunk({}, finish="stop"))
    await exchange.event(usage(7, 4))
    await exchange.event("[DONE]")
    await exchange.end()


def renew(gateway: Gateway) -> None:
    assert gateway.process is not None
    gateway.process.send_signal(signal.SIGUSR2)


def workers_of(gateway: Gateway) -> set[int]:
    assert gateway.process is not None
    return {child.pid for child in psutil.Process(gateway.process.pid).children()}


def told(gateway: Gateway, event: str) -> list[dict[str, Any]]:
    """What the log says of something that happened."""
    return [json.loads(line) for line in gateway.lines(f'"{event}"')]


class Load:
    """Callers who ask without pause, plain and streamed, over connections that are kept and over new ones."""

    def __init__(self) -> None:
        self.answered: list[str] = []
        self.wrong: list[str] = []
        self.over = False

    async def caller(self, gateway: Gateway, *, stream: bool, kept: bool) -> None:
        connector = aiohttp.TCPConnector(force_close=not kept)
        async with session(gateway, connector=connector) as http:
            while not self.over:
                number = f"r-{secrets.token_hex(8)}"
                try:
                    async with http.post(
                        "/v1/chat/completions", json=body(stream=stream), headers={"x-request-id": number}
                    ) as answer:
                        text = await answer.text()
                except aiohttp.ClientError as error:
                    self.wrong.append(f"{type(error).__name__} stream={stream} kept={kept}: {error}")
                    continue
                whole = text.endswith("data: [DONE]\n\n") if stream else text.count(SENTENCE.strip()) == 4
                if answer.status == 200 and whole:
                    self.answered.append(number)
                else:
                    self.wrong.append(f"{answer.status} {text[-200:]}")


@pytest.mark.parametrize(("workers", "kind"), [(1, "sqlite"), (2, "postgresql")])
async def test_new_workers_take_over_under_load_and_nobody_notices(
    tmp_path: Path, workers: int, kind: str, postgres_database: str
) -> None:
    database_url = file_of(tmp_path) if kind == "sqlite" else postgres_database
    environment = {"PASSERELLE_STATE__DATABASE_URL": database_url}
    async with (
        upstream() as model,
        running(tmp_path, model, workers, environment=environment, shutdown_seconds=10) as gateway,
    ):
        model.answers(speaks)
        load = Load()
        callers = [
            asyncio.create_task(load.caller(gateway, stream=stream, kept=kept))
            for stream in (False, True)
            for kept in (False, True)
            for _ in range(3)
        ]
        before = workers_of(gateway)
        renew(gateway)
        await gateway.logged('"renewal_done"')
        await asyncio.sleep(1)
        load.over = True
        await asyncio.gather(*callers)
        async with asyncio.timeout(20):
            while len(workers_of(gateway)) != workers:  # noqa: ASYNC110  # another process
                await asyncio.sleep(0.1)
        assert not before & workers_of(gateway)
        assert load.wrong == []
        await ends(gateway, await stop(gateway), 10)
    assert len(load.answered) > len(callers)  # each has asked again and again
    written = Counter((row["request_id"], row["state"], row["kind"]) for row in await ledger(database_url))
    assert written == Counter((number, "completed", "settle") for number in load.answered)


async def test_a_stream_goes_on_in_the_old_worker_and_an_idle_connection_may_still_ask(tmp_path: Path) -> None:
    released = asyncio.Event()
    held = pauses(released)
    async with (
        upstream() as model,
        running(tmp_path, model, 1, shutdown_seconds=30) as gateway,
        session(gateway, connector=aiohttp.TCPConnector(limit=1)) as idle,
        gateway.client() as sdk,
    ):
        model.answers(held, says("Une autre réponse."))
        stream = await sdk.chat.completions.create(model="m", messages=QUESTION, stream=True)
        texts = [(await anext(aiter(stream))).choices[0].delta.content or ""]
        (old,) = workers_of(gateway)
        renew(gateway)
        said: list[str] = []
        async with asyncio.timeout(40):
            while not said:  # the connection must not run out while the new worker starts
                async with idle.get("/livez") as answer:
                    assert (answer.status, await answer.json()) == (200, {"status": "ok"})  # read, or it is not kept
                    said += [answer.headers["connection"]] if "connection" in answer.headers else []
                await asyncio.sleep(0.1)
        assert said == ["close"]
        await gateway.logged('"renewal_done"')
        assert await gateway.answer() == "Une autre réponse."  # a new connection goes to the new worker
        assert old in workers_of(gateway)
        released.set()
        texts += [part.choices[0].delta.content or "" async for part in stream]
        assert "".join(texts) == "Le début, et la fin."
        async with asyncio.timeout(10):
            while old in workers_of(gateway):  # noqa: ASYNC110  # another process
                await asyncio.sleep(0.1)
        await ends(gateway, await stop(gateway), 10)


async def test_new_workers_read_what_a_reload_cannot_change_and_there_may_be_more_of_them(tmp_path: Path) -> None:
    async with upstream() as model, running(tmp_path, model, 1) as gateway, session(gateway) as http:
        model.answers(says(SENTENCE))
        gateway.workers = 3
        gateway.write(model.url, more="[guards.terms]\nmode = 'enforce'\nterms = ['suivre mon avis']\n")
        gateway.hang_up()
        await gateway.logged('"workers_needed"')
        (line,) = told(gateway, "workers_needed")
        assert line["keys"] == ["guards.terms.terms", "server.workers"]
        async with http.post("/v1/chat/completions", json=body()) as answer:
            assert answer.status == 200
        renew(gateway)
        await gateway.logged("Application startup complete", 4)
        async with session(gateway) as fresh, fresh.post("/v1/chat/completions", json=body()) as answer:
            assert (answer.status, (await answer.json())["error"]["code"]) == (400, "content_policy_violation")
        async with asyncio.timeout(20):  # the old one has still to go
            while len(workers_of(gateway)) != 3:  # noqa: ASYNC110  # another process
                await asyncio.sleep(0.05)
        gateway.workers = 2
        gateway.write(model.url)
        renew(gateway)
        await gateway.logged('"renewal_done"', 2)
        async with asyncio.timeout(20):
            while len(workers_of(gateway)) != 2:  # noqa: ASYNC110  # another process
                await asyncio.sleep(0.1)
        await ends(gateway, await stop(gateway), 5)


@WORKERS
async def test_a_configuration_that_cannot_work_leaves_the_old_workers_serving(tmp_path: Path, workers: int) -> None:
    async with upstream() as model, running(tmp_path, model, workers) as gateway:
        model.answers(says(SENTENCE))
        before = workers_of(gateway)
        gateway.write(model.url, more="[auth]\nsigning_key = 'hunter2'\n")
        renew(gateway)
        await gateway.logged('"renewal_refused"')
        (line,) = told(gateway, "renewal_refused")
        assert line["reason"].startswith("auth has a signing_key that holds no P-256 private key")
        assert "hunter2" not in (gateway.folder / "log").read_text()
        assert [await gateway.answer() for _ in range(4)] == [SENTENCE] * 4
        assert workers_of(gateway) == before
        gateway.write(model.url)
        renew(gateway)
        await gateway.logged('"renewal_done"')
        assert await gateway.answer() == SENTENCE
        await ends(gateway, await stop(gateway), 5)


@WORKERS
async def test_a_worker_that_dies_or_hangs_is_replaced(tmp_path: Path, workers: int) -> None:
    async with upstream() as model, running(tmp_path, model, workers, hang_seconds=2) as gateway:
        model.answers(says(SENTENCE))
        dead = min(workers_of(gateway))
        os.kill(dead, signal.SIGKILL)
        await gateway.logged("Application startup complete", workers + 1)
        assert [(line["pid"], line["reason"]) for line in told(gateway, "worker_lost")] == [
            (dead, "the worker ended by SIGKILL; the lines above say more.")
        ]
        stalled = min(workers_of(gateway))
        psutil.Process(stalled).suspend()
        await gateway.logged("Application startup complete", workers + 2)
        assert [(line["pid"], line["reason"]) for line in told(gateway, "worker_killed")] == [
            (stalled, "gives no sign of life")
        ]
        assert [await gateway.answer() for _ in range(6)] == [SENTENCE] * 6
        await ends(gateway, await stop(gateway), 5)


async def test_a_supervisor_that_was_stalled_itself_does_not_take_its_workers_for_dead(tmp_path: Path) -> None:
    async with upstream() as model, running(tmp_path, model, 2, hang_seconds=2) as gateway:
        assert gateway.process is not None
        before = workers_of(gateway)
        family = [gateway.process.pid, *before]
        for pid in family:
            os.kill(pid, signal.SIGSTOP)
        await asyncio.sleep(4)
        for pid in family:
            os.kill(pid, signal.SIGCONT)
        await asyncio.sleep(1.5)
        assert workers_of(gateway) == before
        assert gateway.lines('"worker_killed"') == []
        await ends(gateway, await stop(gateway), 5)


async def test_workers_that_cannot_start_are_tried_ever_more_rarely_until_they_can(tmp_path: Path) -> None:
    async with upstream() as model, running(tmp_path, model, 2) as gateway:
        model.answers(says(SENTENCE))
        gateway.write(model.url, more="[server.wrong]\n")
        for pid in workers_of(gateway):
            os.kill(pid, signal.SIGKILL)
        await gateway.logged('"worker_lost"', 6)
        lost = told(gateway, "worker_lost")
        assert [line["next_start_seconds"] for line in lost[:4]] == [1, 2, 4, 8]
        assert {line["reason"] for line in lost[2:]} == {
            "server.wrong is not a setting (see passerelle.example.toml for the ones there are)."
        }
        gateway.write(model.url)
        renew(gateway)  # no need to wait for the next try
        await gateway.logged("Application startup complete", 4)
        assert await gateway.answer() == SENTENCE
        await ends(gateway, await stop(gateway), 5)


async def test_a_worker_stops_in_order_when_its_supervisor_is_killed(tmp_path: Path) -> None:
    async with (
        upstream() as model,
        running(tmp_path, model, 1, shutdown_seconds=1) as gateway,
        session(gateway) as http,
    ):
        model.answers(endless)
        answer = await http.post("/v1/chat/completions", json=body(stream=True))
        await answer.content.readuntil(b"\n\n")
        (worker,) = workers_of(gateway)
        assert gateway.process is not None
        gateway.process.kill()
        assert b"server_stopping" in await answer.read()
        with suppress(psutil.NoSuchProcess):
            await asyncio.to_thread(psutil.Process(worker).wait, 15)
    (row,) = await ledger(file_of(tmp_path))
    assert (row["state"], row["kind"]) == ("truncated", "settle")
