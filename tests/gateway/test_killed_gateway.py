"""A gateway of several workers: together they never give more than a limit, and SIGKILL under load loses no answered request."""

import asyncio
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
from redis.asyncio import Redis
from sqlalchemy import select

from auth import database
from auth.principal import SCOPES_OF_ROLE
from auth.signing import keys_from_folder
from auth.tokens import Tokens
from gateway.ledger import rows
from tests.gateway.test_hangup import QUESTION, Gateway, started
from tests.upstream import Exchange, chunk, says, upstream, usage

WORKERS = 4
SENTENCE = "Voici une réponse tout à fait française. "
BODY: dict[str, Any] = {"model": "m", "messages": QUESTION, "max_tokens": 10}


def session(gateway: Gateway) -> aiohttp.ClientSession:
    """Each request over a connection of its own, so that any worker may get it."""
    tokens = Tokens(keys_from_folder(gateway.folder / "signing-keys"), "passerelle", "passerelle", 900)
    token = tokens.issue("alice", scopes=SCOPES_OF_ROLE["member"], tenant="acme")
    connector = aiohttp.TCPConnector(force_close=True, limit=0)
    return aiohttp.ClientSession(connector=connector, headers={"authorization": f"Bearer {token}"})


async def test_two_hundred_at_once_never_get_more_than_the_limit_of_four_workers(
    tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PASSERELLE_STATE__REDIS_URL", redis_url)
    prefix = secrets.token_hex(6)
    monkeypatch.setenv("PASSERELLE_STATE__REDIS_PREFIX", prefix)
    monkeypatch.setenv("PASSERELLE_LIMITS__TOKENS_PER_DAY", "1000")
    async with upstream() as model, started(tmp_path, WORKERS, model.url) as gateway:
        model.answers(says(*[SENTENCE] * 10, prompt=15))
        await gateway.logged("Application startup complete", WORKERS)
        async with session(gateway) as http:

            async def one() -> tuple[int, int]:
                async with http.post(f"http://127.0.0.1:{gateway.port}/v1/chat/completions", json=BODY) as answer:
                    told = await answer.json()
                    return answer.status, told.get("usage", {}).get("total_tokens", 0)

            answers = await asyncio.gather(*(one() for _ in range(200)))
            later = [await one() for _ in range(40)]
        async with Redis.from_url(redis_url) as redis:
            assert await redis.zcard(f"{{{prefix}}}:workers") > 1  # several had some of them
    used = sum(tokens for _, tokens in [*answers, *later])
    assert Counter(status for status, _ in answers).keys() == {200, 429}
    assert 1000 - 25 - 80 < used <= 1000
    assert used == 25 * len(model.asked)


async def test_every_request_that_was_answered_before_sigkill_is_in_the_ledger_once(tmp_path: Path) -> None:
    async def speaks(exchange: Exchange) -> None:
        await exchange.head()
        for _ in range(4):
            await exchange.text(SENTENCE)
            await asyncio.sleep(0.01)
        await exchange.event(chunk({}, finish="stop"))
        await exchange.event(usage(7, 4))
        await exchange.event("[DONE]")
        await exchange.end()

    answered: list[str] = []

    async def caller(http: aiohttp.ClientSession, gateway: Gateway, *, stream: bool) -> None:
        """Asks until nobody answers any more."""
        while True:
            number = f"r-{secrets.token_hex(8)}"
            url, headers = f"http://127.0.0.1:{gateway.port}/v1/chat/completions", {"x-request-id": number}
            async with http.post(url, json={**BODY, "stream": stream}, headers=headers) as answer:
                text = await answer.text()
            if text.endswith("data: [DONE]\n\n") if stream else answer.status == 200:
                answered.append(number)

    async with upstream() as model:
        model.answers(speaks)
        gateway = Gateway(tmp_path, 2)
        gateway.write(model.url)
        await gateway.start()
        assert gateway.process is not None
        await gateway.logged("Application startup complete", 2)
        async with session(gateway) as http:
            calls = [asyncio.create_task(caller(http, gateway, stream=number % 2 == 0)) for number in range(20)]
            async with asyncio.timeout(30):
                while len(answered) < 400:  # noqa: ASYNC110  # other processes
                    await asyncio.sleep(0.01)
            family = [
                gateway.process.pid,
                *(child.pid for child in psutil.Process(gateway.process.pid).children(recursive=True)),
            ]
            for pid in reversed(family):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            await gateway.process.wait()
            await asyncio.gather(*calls, return_exceptions=True)
        before = await final(tmp_path)
        async with started(tmp_path, 1, model.url) as again:
            await again.logged("Application startup complete")
            async with asyncio.timeout(10):
                while not set(answered) <= set(await final(tmp_path)):  # noqa: ASYNC110  # another process
                    await asyncio.sleep(0.05)
        after = Counter(await final(tmp_path))
    assert set(after.values()) == {1}
    assert len(before) < len(after)  # something was left to do
    assert not list((tmp_path / "journal").glob("*.jsonl"))


async def final(folder: Path) -> list[str]:
    """The request ids of all last rows."""
    engine = database.engine(f"sqlite:///{folder / 'passerelle.db'}")
    try:
        async with engine.connect() as connection:
            query = select(rows.c.request_id).where(rows.c.kind.in_(("settle", "release")))
            return list((await connection.execute(query)).scalars())
    finally:
        await engine.dispose()


async def test_workers_do_not_outlive_a_supervisor_that_was_killed(tmp_path: Path) -> None:
    async with upstream() as model:
        gateway = Gateway(tmp_path, 2)
        gateway.write(model.url)
        await gateway.start()
        assert gateway.process is not None
        await gateway.logged("Application startup complete", 2)
        family = psutil.Process(gateway.process.pid).children(recursive=True)
        os.kill(gateway.process.pid, signal.SIGKILL)
        await gateway.process.wait()
        _, alive = await asyncio.to_thread(psutil.wait_procs, family, 15)
        assert alive == []
