"""The context length that model servers say of themselves, where the configuration says none."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest

from gateway.errors import ContextLengthExceeded
from gateway.estimates import Estimates
from gateway.fit import fitting
from gateway.money import Tariff
from gateway.pool import Pool
from gateway.reckoning import Reckoner
from gateway.routing import Catalogue, Ladder
from gateway.settings import Settings, Times
from gateway.upstream import Serving, Upstream
from gateway.watching import Watching
from tests.gateway.requests import pool_of
from tests.gateway.test_fit import WORDS, names, says
from tests.gateway.test_health import Server
from tests.loopback import serve


def told(*lengths: int | None, **of: Any) -> Pool:
    """A pool whose replicas have said these lengths."""
    pool = pool_of(len(lengths), **of)
    for replica, length in zip(pool.replicas, lengths, strict=True):
        replica.context_length = length
    return pool


def listed(length: Any, model: str = "x") -> bytes:
    """What vLLM lists, an adapter beside the model included."""
    return orjson.dumps({"data": [{"id": model, "max_model_len": length}, {"id": "adapter", "max_model_len": None}]})


@pytest.mark.parametrize(
    ("said", "configured", "expected"),
    [
        ([None, None], None, None),
        ([4096, None], None, 4096),
        ([4096, 2048, None], None, 2048),
        ([2048], 4096, 4096),
        ([None], 4096, 4096),
    ],
)
def test_the_configuration_decides_and_else_the_smallest_replica(
    said: list[int | None], configured: int | None, expected: int | None
) -> None:
    assert told(*said, context_length=configured).context_length == expected


async def test_what_was_learned_sends_requests_on_and_bounds_answers() -> None:
    small, large, unknown = told(2048, name="small"), told(16385, name="large"), told(None, name="unknown")
    assert names(fitting((small, large), says(WORDS))) == ["large"]
    with pytest.raises(ContextLengthExceeded, match="2048"):
        fitting((small,), says(WORDS))
    made = Estimates(Reckoner(Settings()), lambda: Tariff({}, None), seconds=1, answer_tokens=lambda: 4096)
    assert (await made.most(says("Bonjour"), [small])).use.tokens == 2048
    for then, found in ((large, True), (unknown, False)):
        with Ladder((small, then)) as ladder:
            assert await ladder.current() is not None
            assert ladder.too_long() is found


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (listed(2048), Serving(up=True, context_length=2048)),
        (listed(None), Serving(up=True)),
        (listed("2048"), Serving(up=True)),
        (listed(True), Serving(up=True)),
        (listed(-1), Serving(up=True)),
        (listed(2048, "y"), Serving(up=False)),
        (b'{"data": [{"id": "x"}]}', Serving(up=True)),
        (b'{"data": []}', Serving(up=True)),
        (b'{"data": ["x"]}', Serving(up=True)),
        (b"<html>", Serving(up=True)),
    ],
)
async def test_a_server_s_list_says_the_context_of_the_model_asked_for(body: bytes, expected: Serving) -> None:
    async with serve(Server(body=body), lifespan="off") as url, Upstream(Times(connect=1)) as upstream:
        assert await upstream.serves(f"{url}/v1", None, "x") == expected


def settings(*urls: str, model: str = "x", **target: Any) -> Settings:
    tables = {"a": {"kind": "vllm", "urls": [f"{url}/v1" for url in urls], "model": model, **target}}
    routing = {"probe_seconds": 0.02}
    return Settings.model_validate({"targets": tables, "models": {"m": {"targets": ["a"]}}, "routing": routing})


@asynccontextmanager
async def watched(catalogue: Catalogue) -> AsyncIterator[Pool]:
    async with Upstream(Times(connect=1)) as upstream, Watching(catalogue, upstream):
        yield catalogue.pools["a"]


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not true():  # noqa: ASYNC110  # the condition is the gateway's, seen from outside
            await asyncio.sleep(0.01)


async def test_probes_learn_what_the_servers_say_and_follow_it() -> None:
    one, two = Server(body=listed(4096)), Server(body=listed(8192))
    async with (
        serve(one, lifespan="off") as first,
        serve(two, lifespan="off") as second,
        watched(Catalogue(settings(first, second))) as pool,
    ):
        await until(lambda: [replica.context_length for replica in pool.replicas] == [4096, 8192])
        assert pool.context_length == 4096
        two.body = listed(1024)  # restarted with less
        await until(lambda: pool.context_length == 1024)
        two.status, asked = 503, len(two.asked)
        await until(lambda: len(two.asked) > asked + 2)
        assert pool.context_length == 1024
        two.status, two.body = 200, listed(None)
        await until(lambda: pool.context_length == 4096)


def test_a_reload_keeps_what_replicas_said_unless_the_model_is_another() -> None:
    catalogue = Catalogue(settings("http://a", "http://b"))
    pool = catalogue.pools["a"]
    for replica, length in zip(pool.replicas, (2048, 1024), strict=True):
        replica.context_length = length
    for by, expected in (
        (settings("http://a", "http://b", concurrency=9), 1024),
        (settings("http://a"), 2048),
        (settings("http://a", context_length=512), 512),
        (settings("http://a", model="y"), None),
    ):
        catalogue.replace(by, by.keys())
        assert pool.context_length == expected
