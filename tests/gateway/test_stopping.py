"""SIGTERM to real gateways with requests under way: what goes on, what is cut, what is written down, and that it ends."""

import asyncio
import json
import os
import shutil
import signal
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import openai
import psutil
import pytest
from sqlalchemy import select

from auth import database
from auth.principal import SCOPES_OF_ROLE
from auth.signing import keys_from_folder
from auth.tokens import Tokens
from gateway.commands.workers import KILL_SECONDS
from gateway.ledger import rows
from tests.gateway.test_chaos_database import Postgres
from tests.gateway.test_chaos_redis import Valkey
from tests.gateway.test_hangup import QUESTION, Gateway
from tests.upstream import Exchange, Upstream, pauses, says, upstream

WORKERS = pytest.mark.parametrize("workers", [1, 2])
SLACK = 2.0  # seconds that a busy machine may add


async def endless(exchange: Exchange) -> None:
    """Words for ever."""
    await exchange.head()
    while not exchange.closed.is_set():
        await exchange.text("mot ")
        await asyncio.sleep(0.05)


async def silent(exchange: Exchange) -> None:
    """Takes a request and never answers."""
    await exchange.closed.wait()


@asynccontextmanager
async def running(
    folder: Path, model: Upstream, workers: int = 1, environment: dict[str, str] | None = None, **server: float
) -> AsyncIterator[Gateway]:
    """A gateway whose workers are ready; `server` are settings of that table. Whoever uses it ends it."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {f"SERVER__{key.upper()}": str(value) for key, value in server.items()}.items():
            patch.setenv(f"PASSERELLE_{name}", value)
        for name, value in (environment or {}).items():
            patch.setenv(name, value)
        gateway = Gateway(folder, workers)
        gateway.write(model.url)
        await gateway.start()
    assert gateway.process is not None
    try:
        await gateway.logged("Application startup complete", workers)
        yield gateway
    finally:
        if gateway.process.returncode is None:
            for process in [*psutil.Process(gateway.process.pid).children(recursive=True)]:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            os.killpg(gateway.process.pid, signal.SIGKILL)
            await gateway.process.wait()


def session(gateway: Gateway, **more: Any) -> aiohttp.ClientSession:
    """A caller who sees headers; its connections are kept."""
    tokens = Tokens(keys_from_folder(gateway.folder / "signing-keys"), "passerelle", "passerelle", 900)
    token = tokens.issue("alice", scopes=SCOPES_OF_ROLE["member"], tenant="acme", may_leave=True)
    return aiohttp.ClientSession(
        f"http://127.0.0.1:{gateway.port}", headers={"authorization": f"Bearer {token}"}, **more
    )


def body(**more: Any) -> dict[str, Any]:
    return {"model": "m", "messages": QUESTION, **more}


async def stop(gateway: Gateway) -> float:
    """Send SIGTERM; when."""
    assert gateway.process is not None
    gateway.process.send_signal(signal.SIGTERM)
    return time.monotonic()


async def ends(gateway: Gateway, since: float, within: float) -> None:
    """It ends by itself, in order, within so many seconds."""
    assert gateway.process is not None
    assert await asyncio.wait_for(gateway.process.wait(), within + 20) == 0
    assert time.monotonic() - since < within + SLACK
    assert gateway.lines("Traceback") == []


async def ledger(url: str) -> list[dict[str, Any]]:
    """The last row of every exchange."""
    engine = database.engine(url)
    try:
        async with engine.connect() as connection:
            query = select(rows).where(rows.c.kind.in_(("settle", "release")))
            return [dict(row) for row in (await connection.execute(query)).mappings()]
    finally:
        await engine.dispose()


def file_of(folder: Path) -> str:
    return f"sqlite:///{folder / 'passerelle.db'}"


@WORKERS
async def test_while_it_drains_it_says_so_still_serves_and_lets_streams_go_on(tmp_path: Path, workers: int) -> None:
    released = asyncio.Event()
    held = pauses(released)
    async with (
        upstream() as model,
        running(tmp_path, model, workers, drain_seconds=3, shutdown_seconds=20) as gateway,
        gateway.client() as sdk,
        session(gateway) as http,
    ):
        model.answers(held, says("Une autre réponse."))
        stream = await sdk.chat.completions.create(model="m", messages=QUESTION, stream=True)
        texts = [(await anext(aiter(stream))).choices[0].delta.content or ""]
        async with http.get("/readyz") as answer:  # the connection is kept, and used again below
            await answer.read()
            assert (answer.status, answer.headers.get("connection")) == (200, None)
        since = await stop(gateway)
        await gateway.logged('"stopping"', workers + 1)
        async with http.get("/readyz") as answer:
            told = await answer.json()
            assert (answer.status, told["status"], answer.headers["connection"]) == (503, "stopping", "close")
        async with http.post("/v1/chat/completions", json=body()) as answer:
            assert (answer.status, answer.headers["connection"]) == (200, "close")
        assert time.monotonic() - since < 3, "too slow a machine to see the drain"
        await asyncio.sleep(3.2 - (time.monotonic() - since))
        with pytest.raises(aiohttp.ClientConnectionError):
            await http.get("/livez")
        released.set()
        texts += [part.choices[0].delta.content or "" async for part in stream]
        assert "".join(texts) == "Le début, et la fin."
        await ends(gateway, since, 20)
    assert {row["state"] for row in await ledger(file_of(tmp_path))} == {"completed"}


@WORKERS
async def test_what_is_open_when_the_time_is_over_ends_by_an_error_and_is_written_down(
    tmp_path: Path, workers: int
) -> None:
    async with (
        upstream() as model,
        running(tmp_path, model, workers, shutdown_seconds=2) as gateway,
        gateway.client() as sdk,
        session(gateway) as http,
    ):
        model.answers(endless, endless, silent, silent)
        stream = await sdk.chat.completions.create(model="m", messages=QUESTION, stream=True)
        await anext(aiter(stream))
        raw = await http.post("/v1/chat/completions", json=body(stream=True))
        await raw.content.readuntil(b"\n\n")
        plain = asyncio.create_task(http.post("/v1/chat/completions", json=body()))
        early = asyncio.create_task(http.post("/v1/chat/completions", json=body(stream=True)))
        while len(model.asked) < 4:  # noqa: ASYNC110  # another process
            await asyncio.sleep(0.02)
        since = await stop(gateway)
        with pytest.raises(openai.APIError) as cut:
            async for _ in stream:
                pass
        assert time.monotonic() - since > 1.9
        assert cut.value.code == "server_stopping"
        *_, last = (await raw.read()).decode().strip().split("\n\n")
        assert json.loads(last.removeprefix("data: "))["error"]["code"] == "server_stopping"
        for answer in [await plain, await early]:
            assert (answer.status, answer.headers["retry-after"], answer.headers["connection"]) == (503, "5", "close")
            assert (await answer.json())["error"]["code"] == "server_stopping"
        await ends(gateway, since, 2 + KILL_SECONDS)
    written = sorted((row["state"], row["kind"], row["error"]) for row in await ledger(file_of(tmp_path)))
    assert written == [("failed", "release", "server_stopping")] * 2 + [("truncated", "settle", "server_stopping")] * 2
    assert all(row["completion_tokens"] > 0 for row in await ledger(file_of(tmp_path)) if row["kind"] == "settle")
    assert not list((tmp_path / "journal").glob("*.jsonl"))


async def test_a_second_signal_ends_the_waiting_but_one_that_comes_twice_at_once_does_not(tmp_path: Path) -> None:
    async with (
        upstream() as model,
        running(tmp_path, model, 2, shutdown_seconds=300) as gateway,
        gateway.client() as sdk,
    ):
        model.answers(endless)
        stream = await sdk.chat.completions.create(model="m", messages=QUESTION, stream=True)
        parts = aiter(stream)
        await anext(parts)
        assert gateway.process is not None
        os.killpg(gateway.process.pid, signal.SIGINT)  # as a terminal does, and the program above passes it on
        gateway.process.send_signal(signal.SIGINT)
        await gateway.logged('"requests":1')
        for _ in range(20):
            await anext(parts)
        since = await stop(gateway)
        with pytest.raises(openai.APIError) as cut:
            async for _ in stream:
                pass
        assert cut.value.code == "server_stopping"
        await ends(gateway, since, KILL_SECONDS)


async def test_a_caller_who_does_not_read_holds_up_nobody(tmp_path: Path) -> None:
    async def flood(exchange: Exchange) -> None:
        await exchange.head()
        while not exchange.closed.is_set():
            await exchange.text("mot " * 2000)

    async with upstream() as model, running(tmp_path, model, shutdown_seconds=1) as gateway, session(gateway) as http:
        model.answers(flood)
        answer = await http.post("/v1/chat/completions", json=body(stream=True))
        await answer.content.readuntil(b"\n\n")
        assert answer.connection is not None
        transport = answer.connection.transport
        assert transport is not None
        transport.pause_reading()
        await asyncio.sleep(1)
        since = await stop(gateway)
        await ends(gateway, since, 1 + KILL_SECONDS)
        answer.close()
    (row,) = await ledger(file_of(tmp_path))
    assert (row["state"], row["kind"]) == ("truncated", "settle")


async def test_a_database_that_hangs_holds_up_nobody_and_the_rows_are_in_the_journal(tmp_path: Path) -> None:
    folder = tempfile.mkdtemp(prefix="passerelle-stop-")
    postgres = await asyncio.to_thread(Postgres, Path(folder))
    try:
        environment = {"PASSERELLE_STATE__DATABASE_URL": postgres.url}
        async with (
            upstream() as model,
            running(tmp_path, model, environment=environment, shutdown_seconds=2) as gateway,
            session(gateway) as http,
        ):
            model.answers(endless)
            answer = await http.post("/v1/chat/completions", json=body(stream=True))
            await answer.content.readuntil(b"\n\n")
            await postgres.stall()
            since = await stop(gateway)
            assert b"server_stopping" in await answer.read()
            await ends(gateway, since, 2 + KILL_SECONDS)
            kept = [
                json.loads(line)
                for each in (tmp_path / "journal").glob("*.jsonl")
                for line in each.read_text().splitlines()
            ]
            assert [(row["state"], row["kind"]) for row in kept] == [("truncated", "settle")]
            await postgres.go_on()
            async with running(tmp_path, model, environment=environment) as again:
                await ends(again, await stop(again), 5 + KILL_SECONDS)
            assert [row["exchange_id"] for row in await ledger(postgres.url)] == [row["exchange_id"] for row in kept]
    finally:
        await postgres.go_on()
        await asyncio.to_thread(postgres.server.cleanup)
        shutil.rmtree(folder, ignore_errors=True)


async def test_a_redis_that_hangs_holds_up_nobody(tmp_path: Path) -> None:
    valkey = Valkey()
    await valkey.start()
    environment = {"PASSERELLE_STATE__REDIS_URL": valkey.url, "PASSERELLE_LIMITS__REQUESTS_PER_MINUTE": "100"}
    try:
        async with (
            upstream() as model,
            running(tmp_path, model, environment=environment, shutdown_seconds=1) as gateway,
            session(gateway) as http,
        ):
            model.answers(endless)
            answer = await http.post("/v1/chat/completions", json=body(stream=True))
            await answer.content.readuntil(b"\n\n")
            await valkey.stall()
            since = await stop(gateway)
            assert b"server_stopping" in await answer.read()
            await ends(gateway, since, 1 + KILL_SECONDS)
    finally:
        await valkey.go_on()
        await valkey.stop()
    (row,) = await ledger(file_of(tmp_path))
    assert (row["state"], row["kind"]) == ("truncated", "settle")


async def test_a_worker_that_is_stalled_is_killed_and_the_stop_still_goes_well(tmp_path: Path) -> None:
    async with upstream() as model, running(tmp_path, model, 2, shutdown_seconds=1) as gateway:
        assert gateway.process is not None
        first, _ = psutil.Process(gateway.process.pid).children()
        first.suspend()
        await ends(gateway, await stop(gateway), 1 + KILL_SECONDS)
        assert len(gateway.lines('"worker_killed"')) == 1


async def test_a_request_that_is_no_answer_of_a_model_is_a_503_too(tmp_path: Path) -> None:
    async with upstream() as model, running(tmp_path, model, shutdown_seconds=1) as gateway, session(gateway) as http:
        begun = asyncio.Event()

        async def slow() -> AsyncIterator[bytes]:
            yield b'{"input": '
            begun.set()
            await asyncio.sleep(60)

        moderation = asyncio.create_task(http.post("/v1/moderations", data=slow()))
        await begun.wait()
        await asyncio.sleep(0.2)
        since = await stop(gateway)
        answer = await moderation
        assert (answer.status, answer.headers["retry-after"]) == (503, "5")
        assert (await answer.json())["error"]["code"] == "server_stopping"
        assert answer.headers["x-request-id"]
        await ends(gateway, since, 1 + KILL_SECONDS)
