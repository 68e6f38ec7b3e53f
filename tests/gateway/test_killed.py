"""A replica killed with SIGKILL under fifty streams: only the streams committed on it are lost, each ended by an error event."""

import asyncio
import json
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from tests.gateway.dying import WORDS
from tests.house import LOOKING_ON, MODEL, house

STREAMS, NAMES = 50, ("un", "deux", "trois")
ASK: dict[str, Any] = {
    "model": MODEL,
    "stream": True,
    "messages": [{"role": "user", "content": "Comment suivre mon avis ?"}],
}


@dataclass
class Told:
    """What one caller was told: the words, the error's code if any, the finish, and whether [DONE] came."""

    words: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    finish: list[str] = field(default_factory=list)
    done: bool = False
    begun: asyncio.Event = field(default_factory=asyncio.Event)

    def hear(self, data: str) -> None:
        if data == "[DONE]":
            self.done = True
            return
        event = json.loads(data)
        if "error" in event:
            self.errors.append(event["error"]["code"])
            return
        for choice in event["choices"]:
            self.words += (choice["delta"].get("content") or "").split()
            self.finish += [choice["finish_reason"]] if choice["finish_reason"] else []
        if self.words:
            self.begun.set()


@asynccontextmanager
async def server(name: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.gateway.dying", name, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        yield process, (await process.stdout.readline()).decode().strip()
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def listen(session: aiohttp.ClientSession, url: str, told: Told) -> None:
    async with session.post(f"{url}/v1/chat/completions", json=ASK) as answer:
        assert answer.status == 200
        async for line in answer.content:
            if line.startswith(b"data: "):
                told.hear(line.removeprefix(b"data: ").decode().strip())


async def test_a_killed_replica_loses_only_the_streams_committed_on_it(tmp_path: Path) -> None:
    async with server(NAMES[0]) as (doomed, first), server(NAMES[1]) as (_, second), server(NAMES[2]) as (_, third):
        local = {"urls": [first, second, third]}
        async with house(tmp_path, targets={"local": local}, guards=LOOKING_ON, times={"idle": 10}) as home:
            headers = {"authorization": f"Bearer {home.token(may_leave=False)}"}
            async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), headers=headers) as session:
                told = [Told() for _ in range(STREAMS)]
                streams = [asyncio.create_task(listen(session, home.url, one)) for one in told]
                await asyncio.gather(*(one.begun.wait() for one in told))
                doomed.kill()
                late = [Told() for _ in range(STREAMS)]  # these come when it is dead already, and lose nothing
                streams += [asyncio.create_task(listen(session, home.url, one)) for one in late]
                await asyncio.gather(*streams)

    on = Counter(one.words[0] for one in told)
    assert all(on[name] >= 5 for name in NAMES)  # all three had their share
    for one in told + late:
        assert len(set(one.words)) == 1  # never two servers in one answer
    lost = [one for one in told if one.words[0] == NAMES[0]]
    assert all((one.errors, one.finish, one.done) == (["upstream_failed"], [], False) for one in lost)
    assert all(0 < len(one.words) < WORDS for one in lost)
    for one in late + [one for one in told if one not in lost]:
        assert (len(one.words), one.errors, one.finish, one.done) == (WORDS, [], ["stop"], True)
    assert NAMES[0] not in {one.words[0] for one in late}
