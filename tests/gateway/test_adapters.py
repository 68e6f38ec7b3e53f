"""An adapter in the catalogue: a target on the servers of its base model, which shares their places, not their faults."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import openai
import pytest

from auth.principal import SCOPES_OF_ROLE, scopes_of
from gateway.breaker import State
from gateway.errors import UpstreamFailed
from gateway.failure import Failure
from gateway.investment import investment
from gateway.pool import Call
from gateway.routing import Catalogue, Ladder
from gateway.settings import Settings
from gateway.target import Target
from tests.gateway.books import TARGETS
from tests.gateway.requests import Clock
from tests.gateway.test_queue import when
from tests.house import MODEL, House, house
from tests.upstream import Upstream, upstream

A, B = "http://a/v1", "http://b/v1"
QUESTION: list[Any] = [{"role": "user", "content": "Comment suivre mon avis ?"}]


def settings(**more: dict[str, Any]) -> Settings:
    """A base model on two servers and targets beside it, by what differs from the base."""
    base = {"kind": "vllm", "urls": [A, B], "model": "base", "concurrency": 1}
    targets = {name: {**base, "model": name, **fields} for name, fields in {"base": {}, **more}.items()}
    return Settings.model_validate({"targets": targets, "models": {name: {"targets": [name]} for name in targets}})


def catalogue(**more: dict[str, Any]) -> Catalogue:
    return Catalogue(settings(**more), Clock())


async def under_way(found: Catalogue, *names: str) -> list[bool]:
    """Which of these requests, all at once, have a place."""
    ladders = [Ladder((found.pools[name],), name) for name in names]
    asking = [asyncio.ensure_future(ladder.current()) for ladder in ladders]
    await asyncio.sleep(0)
    got = [task.done() for task in asking]
    for task, ladder in zip(asking, ladders, strict=True):
        task.cancel()
        await asyncio.wait({task})
        with ladder:
            pass
    return got


async def test_an_adapter_has_no_places_beside_those_of_its_base() -> None:
    found = catalogue(adapter={"urls": [B, A]})
    assert await under_way(found, "base", "adapter", "base", "adapter") == [True, True, False, False]
    assert await under_way(found, "adapter", "adapter", "base") == [True, True, False]
    assert [(pool.waiting, pool.under_way) for pool in found.pools.values()] == [(0, 0), (0, 0)]


@pytest.mark.parametrize(
    "other",
    [{"urls": [A]}, {"concurrency": 2}, {"queue_length": 7}, {"queue_seconds": 7}, {"kind": "openai"}],
    ids=lambda fields: next(iter(fields)),
)
async def test_other_servers_or_bounds_are_another_queue(other: dict[str, Any]) -> None:
    assert (await under_way(catalogue(adapter=other), "base", "base", "adapter"))[2]


async def test_each_target_shows_its_own_requests_alone() -> None:
    found = catalogue(adapter={})
    base, adapter = found.pools.values()
    with Ladder((base,)) as one, Ladder((base,)) as two, Ladder((adapter,)) as three:
        await one.current()
        await two.current()
        waits = asyncio.ensure_future(three.current())
        await asyncio.sleep(0)
        assert [(pool.waiting, pool.under_way) for pool in (base, adapter)] == [(0, 2), (1, 0)]
        one.__exit__()
        await waits
        assert [(pool.waiting, pool.under_way) for pool in (base, adapter)] == [(0, 1), (0, 1)]


async def test_a_reload_parts_and_joins_queues() -> None:
    found = catalogue(adapter={})
    base, adapter = found.pools.values()
    before = base.admission
    for now, shared in ((settings(adapter={"concurrency": 3}), False), (settings(adapter={}), True)):
        found.replace(now, now.keys())
        assert (base.admission is adapter.admission) is shared
        assert base.admission is before
        assert (await under_way(found, "base", "base", "adapter"))[2] is not shared


def test_an_adapter_that_fails_leaves_its_base_alone() -> None:
    found = catalogue(adapter={})
    base, adapter = found.pools.values()
    for _ in range(5):
        with pytest.raises(Failure), Call(adapter.replicas[0]):
            raise Failure("refused", UpstreamFailed("no such adapter"))
    assert [pool.replicas[0].breaker.state() for pool in (base, adapter)] == [State.CLOSED, State.OPEN]


def test_a_machine_behind_several_targets_costs_its_hours_once() -> None:
    own = TARGETS["own"]
    adapter = own.model_copy(update={"model": "adapter"})
    alone = investment([], {"own": own}, Decimal(100))
    assert investment([], {"own": own, "adapter": adapter}, Decimal(100)) == alone
    elsewhere = Target(kind="vllm", urls=["http://127.0.0.1:3/v1"], model="f", price_per_hour=Decimal(1))  # type: ignore[list-item]
    assert investment([], {"own": own, "more": elsewhere}, Decimal(100)).gpu == alone.gpu + 100


@asynccontextmanager
async def tuned(folder: Path) -> AsyncIterator[tuple[House, Upstream]]:
    """A gateway that publishes the base model for everybody, and an adapter for the tenant acme, both on one server."""
    async with upstream() as server:
        base = {"kind": "vllm", "urls": [server.url], "concurrency": 1, "queue_length": 0}
        targets = {"local": {**base, "model": "falcon"}, "local-feedback": {**base, "model": "feedback"}}
        models = {MODEL: {"targets": ["local"]}, "feedback": {"targets": ["local-feedback"], "tenants": ["acme"]}}
        async with house(folder, targets=targets, models=models) as home:
            yield home, server


async def ask(home: House, model: str, **token: Any) -> str | None:
    answer = await home.client(**token).chat.completions.create(model=model, messages=QUESTION)
    return answer.choices[0].message.content


async def listed(home: House, **token: Any) -> list[str]:
    return [model.id async for model in home.client(**token).models.list()]


async def test_the_server_is_asked_for_the_adapter_by_its_name(tmp_path: Path) -> None:
    async with tuned(tmp_path) as (home, server):
        await ask(home, MODEL)
        await ask(home, "feedback")
        assert [exchange.body["model"] for exchange in server.asked] == ["falcon", "feedback"]
        assert await listed(home) == [MODEL, "feedback"]


async def test_for_other_tenants_a_tenant_s_model_is_not_there(tmp_path: Path) -> None:
    async with tuned(tmp_path) as (home, _):
        assert await listed(home, tenant="beta") == [MODEL]
        await ask(home, MODEL, tenant="beta")
        for call in (ask(home, "feedback", tenant="beta"), home.client(tenant="beta").models.retrieve("feedback")):
            with pytest.raises(openai.NotFoundError) as refused:
                await call
            assert refused.value.code == "model_not_found"
        every = scopes_of("admin", "default") | SCOPES_OF_ROLE["member"]
        assert await listed(home, tenant="default", scopes=every) == [MODEL, "feedback"]  # whose rights hold everywhere


async def test_base_and_adapter_together_get_no_more_than_the_server_takes(tmp_path: Path) -> None:
    go = asyncio.Event()
    async with tuned(tmp_path) as (home, server):
        server.answers(when(go))
        first = asyncio.create_task(ask(home, MODEL, may_leave=False))
        while not server.asked:  # noqa: ASYNC110  # the fake has no event for it
            await asyncio.sleep(0.01)
        with pytest.raises(openai.InternalServerError) as refused:
            await ask(home, "feedback", may_leave=False)
        assert refused.value.code == "overloaded"
        assert len(server.asked) == 1
        go.set()
        assert await first
        await ask(home, "feedback", may_leave=False)
