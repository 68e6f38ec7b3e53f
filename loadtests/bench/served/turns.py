"""What is measured, and in which order: for each number of requests at once every contestant in turn.

The order is rotated from one number to the next, so that none is always the first; `twice` runs all of it once more, mirrored.
Who does not have the turn is halted. Each run has a seed of its own: vLLM's prefix cache would find prompts that come again.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import aiohttp

from loadtests.bench.processor import between, spent
from loadtests.bench.served.tool import Figures, Tool, ToolFailed, bench
from loadtests.bench.sidebyside.servers import Server

_LEAST_PROMPTS = 32
_WARM_TOKENS = 16
_QUESTION = "Où puis-je suivre mon avis, et comment corriger une faute que j'y ai laissée ?"
_ANSWER_SECONDS = 300.0  # for an answer of the warm-up: a model server's first ones may compile


class Silent(Exception):
    """A contestant that does not answer as it should; the message says what came."""


@dataclass(frozen=True)
class Plan:
    """`prompts` is how many each run asks, None for a number that grows with `at_once`; `seed` is the first run's."""

    at_once: Sequence[int]
    seed: int
    prompts: int | None = None
    warm: int = 4
    twice: bool = False

    def asked(self, at_once: int) -> int:
        """Prompts of a run: four for each request at once, two where there are most of them."""
        each = 2 if at_once == max(self.at_once) and len(self.at_once) > 1 else 4
        return self.prompts or max(_LEAST_PROMPTS, each * at_once)


@dataclass(frozen=True)
class Run:
    """What one run found; `cores` is the processor time of the contestant's processes by the time that it took."""

    at_once: int
    contestant: str
    seed: int
    figures: Figures
    cores: float | None


def schedule(at_once: Sequence[int], names: Sequence[str], *, twice: bool) -> list[tuple[int, str]]:
    """Who has a turn with how many requests at once, in order."""
    turns = [
        (count, names[(place + number) % len(names)])
        for number, count in enumerate(at_once)
        for place in range(len(names))
    ]
    return turns + turns[::-1] if twice else turns


async def warmed(server: Server, model: str, count: int, seed: int) -> None:
    """Some answers at the same time, of texts that no other run has. Raises Silent."""
    asked = [f"{_QUESTION} Dossier {seed}-{number}." for number in range(count)]
    timeout = aiohttp.ClientTimeout(total=_ANSWER_SECONDS)
    async with aiohttp.ClientSession(headers=server.contestant.headers, timeout=timeout) as session:
        await asyncio.gather(*(_answer(session, server.contestant.url, model, text) for text in asked))


async def _answer(session: aiohttp.ClientSession, url: str, model: str, text: str) -> None:
    messages = [{"role": "user", "content": text}]
    body = {"model": model, "messages": messages, "max_tokens": _WARM_TOKENS, "stream": True, "ignore_eos": True}
    try:
        async with session.post(f"{url}/v1/chat/completions", json=body) as answer:
            said = await answer.text()
    except (aiohttp.ClientError, TimeoutError) as error:
        raise Silent(str(error) or type(error).__name__) from None
    if answer.status != 200 or "data: [DONE]" not in said:
        raise Silent(f"{answer.status} {said[:400]}")


async def measure(servers: Sequence[Server], tool: Tool, plan: Plan) -> list[Run]:
    """Everything; the servers are ready, and halted. What fails is said and missing."""
    by_name = {server.contestant.name: server for server in servers}
    seeds = _seeds(plan.seed)
    turns = schedule(plan.at_once, list(by_name), twice=plan.twice)
    found = []
    for number, (at_once, name) in enumerate(turns, 1):
        sys.stderr.write(f"{number} of {len(turns)}: {name}, {at_once} at once, {plan.asked(at_once)} prompts\n")
        server = by_name[name]
        server.go()
        try:
            await warmed(server, tool.model, plan.warm, next(seeds))
            run = await _run(server, tool, at_once, plan.asked(at_once), next(seeds))
        except (Silent, ToolFailed) as problem:
            sys.stderr.write(f"{name}, {at_once} at once, is left out: {problem}\n")
            continue
        finally:
            server.halt()
        found.append(run)
        sys.stderr.write(
            f"  {run.figures.output_tokens_per_s:.0f} tokens/s, mean TTFT {run.figures.mean_ttft:.0f} ms\n"
        )
    return found


async def _run(server: Server, tool: Tool, at_once: int, prompts: int, seed: int) -> Run:
    before = spent(server.processes())
    figures = await bench(tool, server.contestant, at_once, prompts, seed)
    cores = between(before, spent(before)) / figures.duration if before and figures.duration else None
    return Run(at_once, server.contestant.name, seed, figures, cores)


def _seeds(first: int) -> Iterator[int]:
    while True:
        yield first
        first += 1
