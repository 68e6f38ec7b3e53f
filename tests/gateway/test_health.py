import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url
from starlette.types import Receive, Scope, Send

from auth import database, schema
from gateway.health import Health
from gateway.ledger import LINEAGE
from gateway.routing import Catalogue
from gateway.settings import Settings, Times
from gateway.upstream import Upstream
from tests.gateway.test_chaos_redis import Valkey
from tests.house import MODEL, House, house
from tests.loopback import serve

CLOSED = "http://127.0.0.1:1/v1"


class Server:
    """A model server that answers with `status` and counts how often it was asked."""

    def __init__(self, status: int = 200, body: bytes = b"{}") -> None:
        self.status = status
        self.body = body
        self.asked: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.asked.append(scope["path"])
        await send({"type": "http.response.start", "status": self.status, "headers": []})
        await send({"type": "http.response.body", "body": self.body})


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


async def prepared(url: str) -> None:
    """Make our tables in a database."""
    engine = database.engine(url)
    for lineage in (schema.AUTH, LINEAGE):
        await schema.prepare(engine, lineage)
    await engine.dispose()


@asynccontextmanager
async def health(database_url: str, clock: Clock | None = None, /, **targets: dict[str, Any]) -> AsyncIterator[Health]:
    """The health of a gateway whose model `m` has these targets."""
    tables = {name: {"kind": "vllm", "model": "x", **more} for name, more in targets.items()}
    settings = Settings.model_validate({"targets": tables, "models": {"m": {"targets": list(tables)}}})
    engine = database.engine(database_url)
    async with Upstream(Times(connect=1)) as upstream:
        yield Health(engine, Catalogue(settings), upstream, clock or Clock())
    await engine.dispose()


async def test_all_is_well_when_the_database_and_a_target_answer(database_url: str) -> None:
    server = Server()
    async with serve(server, lifespan="off") as url, health(database_url, a={"urls": [f"{url}/v1"]}) as asked:
        await prepared(database_url)
        assert await asked.parts() == {"database": True, "model m": True}
        assert (await asked.readiness()).status == "ok"
    assert server.asked == ["/v1/models"]


@pytest.mark.parametrize(
    ("status", "up"), [(200, True), (401, False), (403, False), (404, True), (500, False), (503, False)]
)
async def test_a_target_is_up_when_it_answers_and_takes_our_key(tmp_path: Path, status: int, *, up: bool) -> None:
    async with (
        serve(Server(status), lifespan="off") as url,
        health(f"sqlite:///{tmp_path}/x.db", a={"urls": [f"{url}/v1"]}) as asked,
    ):
        assert (await asked.parts())["model m"] is up


@pytest.mark.parametrize(
    ("body", "up"),
    [
        (b'{"data": [{"id": "y"}, {"id": "x"}]}', True),
        (b'{"data": [{"id": "y"}]}', False),
        (b'{"data": []}', True),
        (b"[]", True),
        (b"not json", True),
    ],
)
async def test_a_target_whose_server_names_only_other_models_is_down(tmp_path: Path, body: bytes, *, up: bool) -> None:
    async with (
        serve(Server(body=body), lifespan="off") as url,
        health(f"sqlite:///{tmp_path}/x.db", a={"urls": [f"{url}/v1"]}) as asked,
    ):
        assert (await asked.parts())["model m"] is up


@pytest.mark.parametrize(
    ("targets", "up"),
    [
        ({"a": {"urls": [CLOSED]}}, False),
        ({"a": {"urls": [CLOSED]}, "b": {"urls": [CLOSED]}}, False),
        ({"a": {"urls": [CLOSED, "open"]}}, True),
        ({"a": {"urls": [CLOSED]}, "b": {"urls": ["open"]}}, True),
        ({"a": {"urls": [CLOSED], "outside": True}}, True),
        ({"a": {"urls": [CLOSED]}, "b": {"urls": [CLOSED], "outside": True}}, True),
    ],
    ids=["closed", "both closed", "one replica", "one target", "outside is not asked", "the outside fallback"],
)
async def test_a_model_is_up_when_one_of_its_targets_is(
    tmp_path: Path, targets: dict[str, dict[str, Any]], *, up: bool
) -> None:
    async with serve(Server(), lifespan="off") as url:
        open_url = f"{url}/v1"
        tables = {
            name: {**more, "urls": [open_url if each == "open" else each for each in more["urls"]]}
            for name, more in targets.items()
        }
        async with health(f"sqlite:///{tmp_path}/x.db", **tables) as asked:
            assert (await asked.parts())["model m"] is up


async def test_the_parts_are_asked_again_only_when_they_are_old(tmp_path: Path) -> None:
    server, clock = Server(), Clock()
    async with (
        serve(server, lifespan="off") as url,
        health(f"sqlite:///{tmp_path}/x.db", clock, a={"urls": [f"{url}/v1"]}) as asked,
    ):
        assert (await asked.parts())["model m"]
        server.status = 500
        clock.now = 2.0
        assert (await asked.parts())["model m"]
        clock.now = 2.1
        assert not (await asked.parts())["model m"]
    assert len(server.asked) == 2


async def test_a_database_that_does_not_answer_is_down_and_the_gateway_goes_on(postgres_url: str) -> None:
    gone = make_url(postgres_url).set(database="gone").render_as_string(hide_password=False)
    async with serve(Server(), lifespan="off") as model:
        for url in ("postgresql://u@127.0.0.1:1/d", gone):
            async with health(url, a={"urls": [f"{model}/v1"]}) as asked:
                readiness = await asked.readiness()
                assert readiness.parts == {"database": "down", "model m": "ok"}
                assert (readiness.status, readiness.ready) == ("degraded", True)


async def test_a_database_without_our_tables_is_no_outage_and_nothing_goes_on(database_url: str) -> None:
    async with serve(Server(), lifespan="off") as url, health(database_url, a={"urls": [f"{url}/v1"]}) as asked:
        readiness = await asked.readiness()
        assert (readiness.status, readiness.ready, readiness.parts["database"]) == ("unavailable", False, "down")
        assert asked.notes()["database"].startswith("it answers, but has no tables of ours")


async def probe(home: House, path: str) -> tuple[int, Any]:
    async with aiohttp.ClientSession() as session, session.get(home.url + path) as answer:
        return answer.status, await answer.json()


async def test_the_probes_answer_anyone(home: House) -> None:
    assert await probe(home, "/livez") == (200, {"status": "ok"})
    parts = {"database": "ok", f"model {MODEL}": "ok"}
    assert await probe(home, "/readyz") == (200, {"status": "ok", "parts": parts})


async def test_a_gateway_without_a_model_server_lives_but_is_not_ready(tmp_path: Path) -> None:
    async with house(tmp_path, models={MODEL: {"targets": ["gone"]}}, targets={"gone": _gone()}) as home:
        assert (await probe(home, "/livez"))[0] == 200
        parts = {"database": "ok", f"model {MODEL}": "down"}
        assert await probe(home, "/readyz") == (503, {"status": "unavailable", "parts": parts})


async def test_one_model_of_two_is_enough_to_be_asked(tmp_path: Path) -> None:
    async with house(tmp_path, models={"other": {"targets": ["gone"]}}, targets={"gone": _gone()}) as home:
        parts = {"database": "ok", f"model {MODEL}": "ok", "model other": "down"}
        assert await probe(home, "/readyz") == (200, {"status": "degraded", "parts": parts})


@pytest.mark.parametrize(("policy", "status", "word"), [("degrade", 200, "degraded"), ("refuse", 503, "unavailable")])
async def test_without_redis_it_is_ready_unless_nobody_is_served_then(
    tmp_path: Path, policy: str, status: int, word: str
) -> None:
    valkey = Valkey()
    await valkey.start()
    tables: dict[str, Any] = {"state": {"redis_url": valkey.url}, "fail_policy": {"redis": policy}}
    async with house(tmp_path, limits={"requests_per_minute": 100}, **tables) as home:
        assert (await probe(home, "/readyz"))[1]["parts"]["redis"] == "ok"
        await valkey.stop()
        async with asyncio.timeout(20), home.client() as sdk:
            with suppress(openai.APIError):
                await sdk.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "Oui ?"}])
            told = await probe(home, "/readyz")
    assert (told[0], told[1]["status"], told[1]["parts"]["redis"]) == (status, word, "down")


async def test_the_database_s_tables_that_go_under_a_running_gateway_make_it_unready(
    tmp_path: Path, database_url: str
) -> None:
    async with house(tmp_path, state={"database_url": database_url}) as home:
        assert (await probe(home, "/readyz"))[0] == 200
        async with home.engine.begin() as connection:
            await connection.execute(text("DROP TABLE auth_revision"))
        async with asyncio.timeout(10):
            while (told := await probe(home, "/readyz"))[0] == 200:  # noqa: ASYNC110  # asked anew at most every two seconds
                await asyncio.sleep(0.1)
    assert (told[1]["status"], told[1]["parts"]["database"]) == ("unavailable", "down")


def _gone() -> dict[str, Any]:
    return {"kind": "vllm", "urls": [CLOSED], "model": "m"}
