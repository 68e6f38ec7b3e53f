"""The ledger against what the model servers counted themselves, over thousands of requests that end in every way there is."""

import asyncio
import json
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp
from sqlalchemy import func, select

from gateway.ledger import rows
from tests.house import MODEL, House, house
from tests.upstream import Exchange, Script, chunk, refuses

REQUESTS: Final = 5000
AT_ONCE: Final = 40
FR: Final = "Voici une phrase tout à fait française, qui répond à la question. "
EN: Final = "This is a sentence that is written in plain English, one after another. "
PROMPT: Final = 11  # tokens, as the model servers say

# What becomes of a request: the plot of each try, the local target's first; then who is asked next.
PLOTS: Final = (
    "whole", "whole", "whole", "uncounted", "cut", "left",
    "drift,whole", "drift,drift,whole", "drift,drift,drift,drift", "refused,whole", "refused,refused", "drift,left",
    "at fault",
)  # fmt: skip


@dataclass
class Server:
    """A model server that plays the plot a question names, and counts what it generated."""

    name: str
    tries: Counter[str]
    tokens: Counter[str] = field(default_factory=Counter)

    async def __call__(self, exchange: Exchange) -> None:
        (question,) = (turn["content"] for turn in exchange.body["messages"] if turn["role"] == "user")
        number, plot, _ = question.split(":")
        scenes = plot.split(",")
        scene = scenes[min(self.tries[number], len(scenes) - 1)]
        self.tries[number] += 1
        await SCENES[scene](self, exchange, 1 + int(number) % 5)

    async def says(self, exchange: Exchange, text: str, length: int, *, counted: bool = True) -> None:
        """So many tokens in one piece, each with the count until then, as vLLM sends it when asked for continuous usage."""
        await exchange.head()
        events = []
        for number in range(1, length + 1):
            usage = {"prompt_tokens": PROMPT, "completion_tokens": number, "total_tokens": PROMPT + number}
            events.append({**chunk({"content": text}), **({"usage": usage} if counted else {})})
        await exchange.send(b"".join(b"data: %b\n\n" % json.dumps(event).encode() for event in events))
        self.tokens["prompt"] += PROMPT
        self.tokens["completion"] += length

    async def ends(self, exchange: Exchange) -> None:
        await exchange.event(chunk({}, finish="stop"))
        await exchange.event("[DONE]")
        await exchange.end()


async def whole(server: Server, exchange: Exchange, length: int) -> None:
    await server.says(exchange, FR, length)
    await server.ends(exchange)


async def uncounted(server: Server, exchange: Exchange, length: int) -> None:
    await server.says(exchange, FR, length, counted=False)
    server.tokens["prompt"] -= PROMPT  # its own count is not told; ours is compared apart
    await server.ends(exchange)


async def drift(server: Server, exchange: Exchange, length: int) -> None:
    await server.says(exchange, EN, 1)  # the gate stops the answer there
    await exchange.closed.wait()


async def cut(server: Server, exchange: Exchange, length: int) -> None:
    await server.says(exchange, FR, length)
    exchange.hang_up()


async def left(server: Server, exchange: Exchange, length: int) -> None:
    await server.says(exchange, FR, length)
    await exchange.closed.wait()


async def refused(server: Server, exchange: Exchange, length: int) -> None:
    await refuses(500)(exchange)


async def at_fault(server: Server, exchange: Exchange, length: int) -> None:
    await refuses(400, {"error": {"message": "This is your fault."}})(exchange)


SCENES: Final[dict[str, Callable[[Server, Exchange, int], Any]]] = {
    "whole": whole, "uncounted": uncounted, "drift": drift, "cut": cut, "left": left, "refused": refused, "at fault": at_fault,
}  # fmt: skip


@dataclass
class Callers:
    """They ask, and leave as soon as they have heard all they wait for."""

    home: House
    session: aiohttp.ClientSession
    chance: random.Random

    async def ask(self, number: int) -> None:
        plot = self.chance.choice(PLOTS)
        stream = self.chance.random() < 0.6 or plot.endswith("left") or plot == "cut"
        body = {"model": MODEL, "stream": stream, "messages": [{"role": "user", "content": f"{number}:{plot}:?"}]}
        async with self.session.post(f"{self.home.url}/v1/chat/completions", json=body) as answer:
            heard, wanted = "", FR * (1 + number % 5)
            async for line in answer.content:
                if plot.endswith("left") and line.startswith(b"data: {"):
                    delta = json.loads(line[6:])["choices"][0]["delta"]
                    heard += delta.get("content") or ""
                    if heard.strip() == wanted.strip():
                        return


async def test_it_sums_up_to_what_the_model_servers_counted(tmp_path: Path) -> None:
    tries: Counter[str] = Counter()
    local, outside = Server("local", tries), Server("outside", tries)
    scripts: list[Script] = [local, outside]
    times = {"idle": 60, "first_content": 60, "connect": 60, "total": 120}  # whoever else uses this machine
    limits = {"requests_per_minute": 0, "tokens_per_day": 10**9}
    # The servers say one sentence up to five times, and the questions are no human being's.
    guards = {"loops": {"mode": "annotate"}, "injection": {"mode": "annotate"}}
    async with house(tmp_path, times=times, routing={"failures": 1_000_000}, limits=limits, guards=guards) as home:
        home.local.answers(scripts[0])
        home.outside.answers(scripts[1])
        headers = {"authorization": f"Bearer {home.token()}"}
        connector = aiohttp.TCPConnector(limit=AT_ONCE)
        async with aiohttp.ClientSession(headers=headers, connector=connector) as session:
            callers, numbers = Callers(home, session, random.Random(7)), iter(range(REQUESTS))  # noqa: S311

            async def one() -> None:
                for number in numbers:
                    await callers.ask(number)

            await asyncio.gather(*(one() for _ in range(AT_ONCE)))
        async with asyncio.timeout(20):
            while await counted(home) < REQUESTS:  # noqa: ASYNC110  # the drain's task
                await asyncio.sleep(0.05)
        assert await counted(home) == REQUESTS
        for server in (local, outside):
            told = select(
                func.sum(rows.c.completion_tokens),
                func.sum(rows.c.prompt_tokens).filter(rows.c.usage_source == "upstream"),
            ).where(rows.c.target == server.name, rows.c.kind != "reserve")
            async with home.engine.connect() as connection:
                completion, prompt = (await connection.execute(told)).one()
            assert (completion, prompt) == (server.tokens["completion"], server.tokens["prompt"])
        await shapes(home)
        settled = select(func.sum(rows.c.prompt_tokens + rows.c.completion_tokens)).where(rows.c.kind == "settle")
        async with home.engine.connect() as connection:
            charged = (await connection.execute(settled)).scalar_one()
        assert await left_to(home, "bob") - await left_to(home, "alice") == charged


async def left_to(home: House, subject: str) -> int:
    """Tokens of a day that somebody has left after one more request, the same for everybody."""
    question: Any = [{"role": "user", "content": "0:whole:?"}]
    answer = await home.client(subject=subject).chat.completions.with_raw_response.create(
        model=MODEL, messages=question, max_tokens=5
    )
    return int(answer.headers["x-ratelimit-remaining-tokens"])


async def counted(home: House) -> int:
    final = select(func.count()).where(rows.c.kind.in_(("settle", "release")))
    async with home.engine.connect() as connection:
        return int((await connection.execute(final)).scalar_one())


async def shapes(home: House) -> None:
    """Every way out has happened often."""
    query = select(rows.c.kind, rows.c.state, func.count()).group_by(rows.c.kind, rows.c.state)
    async with home.engine.connect() as connection:
        found = {(kind, state): count for kind, state, count in (await connection.execute(query)).all()}
    assert set(found) == {
        ("reserve", "queued"),
        ("settle", "completed"), ("settle", "truncated"), ("settle", "client_closed"),
        ("release", "blocked"), ("release", "failed"),
        ("regeneration", "completed"), ("regeneration", "blocked"), ("regeneration", "client_closed"),
        ("fallback", "completed"), ("fallback", "failed"),
    }  # fmt: skip
    assert min(found.values()) > 100
