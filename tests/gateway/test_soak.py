"""Half an hour under load: memory stays flat, every request is in the ledger once, and nothing is held at the end.

`PASSERELLE_SOAK_MINUTES=30 python -m pytest -m slow tests/gateway/test_soak.py -s` prints a line every half minute;
docs/usage.md has the figures of one run.
"""

import asyncio
import os
import random
import secrets
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any, Final

import aiohttp
import psutil
import pytest
from redis.asyncio import Redis
from sqlalchemy import func, select

from auth import database
from auth.principal import SCOPES_OF_ROLE
from auth.signing import keys_from_folder
from auth.tokens import Tokens
from gateway.ledger import rows
from tests.gateway.test_hangup import Gateway, started
from tests.upstream import Exchange, chunk, upstream, usage

MINUTES: Final = float(os.environ.get("PASSERELLE_SOAK_MINUTES", "30"))
CALLERS: Final = 24
USERS: Final = 20_000
SAMPLE_S: Final = 30.0
GROWTH: Final = 0.05  # of the memory of the second quarter, at most, in the last one
FR: Final = "Voici une phrase tout à fait française, qui répond à la question. "
EN: Final = "This is a sentence that is written in plain English, one after another. "

pytestmark = [pytest.mark.slow, pytest.mark.timeout(MINUTES * 60 + 300)]


async def model(exchange: Exchange) -> None:
    """Sixteen sentences with time between them; every tenth answer drifts at first, every twentieth is cut."""
    question = exchange.body["messages"][-1]["content"]
    await exchange.head()
    firm = exchange.body["messages"][-1]["role"] == "assistant"
    if question.endswith("0") and not firm:
        await exchange.text(EN)
        await exchange.closed.wait()
        return
    for number in range(16):
        await exchange.text(FR)
        if number == 8 and question.endswith("15"):
            exchange.hang_up()
            return
        await asyncio.sleep(0.02)
    await exchange.event(chunk({}, finish="stop"))
    await exchange.event(usage(20, 16))
    await exchange.event("[DONE]")
    await exchange.end()


@dataclass
class Soak:
    """What has been asked so far, and how much memory the workers had."""

    gateway: Gateway
    until: float
    asked: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    memory: list[float] = field(default_factory=list)

    async def caller(self, http: aiohttp.ClientSession, tokens: Tokens) -> None:
        """More users than are remembered: what is kept of each must not pile up."""
        chance = random.Random()  # noqa: S311
        while time.monotonic() < self.until:
            token = tokens.issue(
                f"user-{chance.randrange(USERS)}", scopes=SCOPES_OF_ROLE["member"], tenant=f"t{chance.randrange(50)}"
            )
            self.asked += 1
            body: dict[str, Any] = {
                "model": "m",
                "stream": chance.random() < 0.7,
                "max_tokens": 40,
                "messages": [{"role": "user", "content": f"Question {chance.randrange(100)}"}],
            }
            leaves = chance.random() < 0.1
            url, headers = (
                f"http://127.0.0.1:{self.gateway.port}/v1/chat/completions",
                {"authorization": f"Bearer {token}"},
            )
            async with http.post(url, json=body, headers=headers) as answer:
                self.statuses[answer.status] += 1
                if leaves:
                    await answer.content.readany()
                    continue
                await answer.read()

    async def watch(self) -> None:
        assert self.gateway.process is not None
        began = time.monotonic()
        while time.monotonic() < self.until:
            await asyncio.sleep(SAMPLE_S)
            parent = psutil.Process(self.gateway.process.pid)
            workers = [process for process in parent.children(recursive=True) if process.memory_info().rss > 60e6]
            self.memory.append(sum(process.memory_info().rss for process in workers) / 1e6)
            took, sum_ = time.monotonic() - began, self.memory[-1]
            line = f"{took:6.0f} s  {self.asked:7d} requests  {sum_:6.1f} MB in {len(workers)} workers"
            print(line, file=sys.__stderr__, flush=True)  # long work shows progress


async def test_half_an_hour_under_load(tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    prefix = secrets.token_hex(6)
    for name, value in {
        "STATE__REDIS_URL": redis_url, "STATE__REDIS_PREFIX": prefix, "LIMITS__TOKENS_PER_DAY": "100000000",
        "LIMITS__CONCURRENT": "20", "LIMITS__TENANT": '{"concurrent": 1000, "tokens_per_minute": 100000000}',
        "GUARDS__LANGUAGE__MODE": "enforce", "ROUTING__FAILURES": "1000000",
    }.items():  # fmt: skip
        monkeypatch.setenv(f"PASSERELLE_{name}", value)
    async with upstream() as server, started(tmp_path, 2, server.url) as gateway:
        server.answers(model)
        await gateway.logged("Application startup complete", 2)
        tokens = Tokens(keys_from_folder(tmp_path / "signing-keys"), "passerelle", "passerelle", 900)
        soak = Soak(gateway, time.monotonic() + MINUTES * 60)
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
            watching = asyncio.create_task(soak.watch())
            await asyncio.gather(*(soak.caller(http, tokens) for _ in range(CALLERS)))
            await watching
        await asyncio.sleep(5)  # for callers who left, and for the drain
        server.asked.clear()
        async with Redis.from_url(redis_url) as redis:
            held = [await redis.hgetall(key) async for key in redis.scan_iter(f"{{{prefix}}}:tenant:concurrent:*")]
        counts = await ledger(tmp_path)
    quarter = len(soak.memory) // 4
    second, last = fmean(soak.memory[quarter : 2 * quarter]), fmean(soak.memory[-quarter:])
    summary = (
        f"{soak.asked} requests, statuses {dict(soak.statuses)}, ledger {counts}, memory {second:.1f} -> {last:.1f} MB"
    )
    print(summary, file=sys.__stderr__, flush=True)
    assert sum(counts.values()) == soak.asked
    assert [fields for fields in held if fields] == []
    assert last < second * (1 + GROWTH)


async def ledger(folder: Path) -> dict[str, int]:
    """How many requests ended in each state."""
    engine = database.engine(f"sqlite:///{folder / 'passerelle.db'}")
    try:
        async with engine.connect() as connection:
            query = (
                select(rows.c.state, func.count()).where(rows.c.kind.in_(("settle", "release"))).group_by(rows.c.state)
            )
            return {str(row[0]): int(row[1]) for row in await connection.execute(query)}
    finally:
        await engine.dispose()
