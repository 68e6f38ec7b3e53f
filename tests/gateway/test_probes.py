"""Health by probe: whom it takes out of a pool, when it is not believed, and what callers see of it."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway import probe
from gateway.breaker import State
from gateway.errors import UpstreamFailed
from gateway.failure import Failure
from gateway.pool import Call, Pool, Replica
from gateway.settings import Routing
from tests.gateway.requests import Clock, pool_of
from tests.gateway.test_load import OLD
from tests.gateway.test_pool import picks
from tests.gateway.test_replicas import asked, pool, shown, state
from tests.house import House
from tests.upstream import Upstream, refuses, says, upstream
from tests.vllm_server import free_port

ROUTING = Routing(failures=1, cool_down_seconds=10)


def told(replicas: str, *, cooled: bool = False, **of: Any) -> Pool:
    """A pool by its replicas: u up, d down by its probes, U and D the same with an open breaker, whose cool-down may be over."""
    clock = Clock()
    made = pool_of(len(replicas), clock=clock, routing=ROUTING, **of)
    for replica, word in zip(made.replicas, replicas, strict=True):
        for _ in range(2):
            replica.breaker.probed(up=word in "uU")
        if word.isupper():
            with pytest.raises(Failure), Call(replica):
                raise Failure("cut", UpstreamFailed("x"))
    clock.now += 10 if cooled else 0
    return made


def chosen(replicas: str, *, cooled: bool = False, but: int | None = None, **of: Any) -> set[int]:
    made = told(replicas, cooled=cooled, **of)
    left = None if but is None else made.replicas[but]
    return {replica.index for _ in range(200) if (replica := made.choose(but=left)) is not None}


@pytest.mark.parametrize(
    ("replicas", "cooled", "found"),
    [
        ("uuu", False, {0, 1, 2}),
        ("duu", False, {1, 2}),
        ("ddu", False, {2}),
        ("ddd", False, {0, 1, 2}),  # of all: then it says nothing
        ("d", False, {0}),
        ("dUU", False, {0}),  # the breakers keep the others out
        ("DDu", True, {2}),  # no request is spent on a trial
        ("Du", True, {1}),
        ("Uu", True, {0, 1}),
        ("DD", True, {0, 1}),
        ("DD", False, set()),
        ("dU", True, {1}),
    ],
)
def test_a_replica_that_is_down_is_asked_only_when_all_that_may_be_asked_are(
    replicas: str, found: set[int], *, cooled: bool
) -> None:
    assert chosen(replicas, cooled=cooled) == found


def test_a_replica_that_is_down_is_no_second_try() -> None:
    assert chosen("ud", but=0) == set()
    assert chosen("uud", but=0) == {1}
    assert chosen("dd", but=0) == {1}


def test_of_a_replica_that_is_down_no_figures_are_missed() -> None:
    made = told("du", kind="vllm")
    made.replicas[0].load.take(OLD)
    assert not made.blind()
    made.replicas[1].load.take(OLD)
    assert made.blind()


def test_outside_targets_and_pools_without_probes_go_by_their_breakers_alone() -> None:
    assert chosen("ud", outside=True) == {0, 1}
    made = pool_of(2, routing=Routing(probe_seconds=0))
    for _ in range(2):
        made.replicas[0].breaker.probed(up=False)
    assert set(picks(made, 200)) == {0, 1}


def test_a_replica_that_is_back_gets_the_trial_at_once() -> None:
    made = told("Du")
    assert set(picks(made, 200)) == {1}
    made.replicas[0].breaker.probed(up=True)
    made.replicas[1].load.in_flight = 1
    assert set(picks(made, 200)) == {0}
    with Call(made.replicas[0]):
        assert made.replicas[0].breaker.state() is State.TRIAL
        assert set(picks(made, 200)) == {1}


async def test_every_replica_is_asked_again_and_again_and_the_log_says_what_changes() -> None:
    made, rounds = pool_of(2), asyncio.Semaphore(0)
    answers = {0: iter([False, False, False, True]), 1: iter([True, False, True])}

    async def serves(replica: Replica) -> bool:
        rounds.release()
        return next(answers[replica.index], True)

    with capture_logs() as logs:
        watching = asyncio.create_task(probe.watch(made, serves, 0.001, random.Random(1)))  # noqa: S311  # the same each time
        for _ in range(40):
            await rounds.acquire()
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching
    found = [(entry["event"], entry["log_level"], entry["target"], entry["replica"]) for entry in logs]
    assert found == [("replica_down", "warning", "local", 0), ("replica_up", "info", "local", 0)]


class Restarts:
    """A model server that can be stopped and started again at its address."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/v1"
        self._stack = AsyncExitStack()

    async def start(self, text: str) -> Upstream:
        fake = await self._stack.enter_async_context(upstream(self.port))
        fake.answers(says(text))
        return fake

    async def stop(self) -> None:
        await self._stack.aclose()


@asynccontextmanager
async def restarts() -> AsyncIterator[Restarts]:
    server = Restarts()
    yield server
    await server.stop()


async def until(home: House, seen: Callable[[str], bool]) -> None:
    """Wait until the metrics show something."""
    async with asyncio.timeout(20):
        while not seen(await shown(home, "/metrics")):
            pass


def shows(replica: int, value: float) -> Callable[[str], bool]:
    return lambda text: f'passerelle_replica_down{{replica="{replica}",target="local"}} {value}' in text


async def test_a_replica_that_died_without_traffic_is_found_by_no_request(tmp_path: Path) -> None:
    async with (
        restarts() as one,
        upstream() as two,
        pool(tmp_path, one.url, two.url, probe_seconds=0.05, cool_down_seconds=600, failures=1) as home,
    ):
        await one.start("Du premier.")
        two.answers(says("Du second."))
        await until(home, shows(0, 0.0))
        await one.stop()
        await until(home, shows(0, 1.0))
        assert {await asked(home) for _ in range(20)} == {(None, "Du second.")}
        assert state(await shown(home, "/metrics"), 0) == State.CLOSED
        await one.start("De retour.")
        await until(home, shows(0, 0.0))
        assert {await asked(home) for _ in range(30)} == {(None, "Du second."), (None, "De retour.")}


async def test_a_replica_that_is_back_is_tried_without_waiting_for_the_cool_down(tmp_path: Path) -> None:
    async with (
        restarts() as one,
        upstream() as two,
        pool(tmp_path, one.url, two.url, probe_seconds=0.05, cool_down_seconds=600, failures=1) as home,
    ):
        broken = await one.start("")
        broken.answers(refuses(500))
        while not broken.asked:
            await asked(home)
        await until(home, lambda text: state(text, 0) == State.OPEN)
        assert [(await asked(home))[0] for _ in range(10)] == [None] * 10  # its probes are green, and close nothing
        assert len(broken.asked) == 1
        await one.stop()
        await until(home, shows(0, 1.0))
        await one.start("De retour.")
        await until(home, shows(0, 0.0))
        assert "De retour." in {(await asked(home))[1] for _ in range(30)}
        assert state(await shown(home, "/metrics"), 0) == State.CLOSED


async def test_a_target_s_only_replica_is_asked_whatever_its_probes_say(tmp_path: Path) -> None:
    async with restarts() as one, pool(tmp_path, one.url, probe_seconds=0.05, failures=1000) as home:
        await until(home, shows(0, 1.0))
        assert (await asked(home))[0] == "local=failed, outside=served"
        await one.start("De retour.")
        assert await asked(home) == (None, "De retour.")


async def test_outside_servers_are_not_probed(tmp_path: Path) -> None:
    async with restarts() as one, pool(tmp_path, one.url, probe_seconds=0.05) as home:
        await until(home, shows(0, 1.0))
        assert 'passerelle_replica_down{replica="0",target="outside"}' not in await shown(home, "/metrics")
