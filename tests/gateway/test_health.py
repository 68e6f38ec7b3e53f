from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from sqlalchemy.engine import make_url
from starlette.types import Receive, Scope, Send

from auth import database
from gateway.health import Health
from gateway.routing import Catalogue
from gateway.settings import Settings, Times
from gateway.upstream import Upstream
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
        assert await asked.parts() == {"database": True, "model m": True}
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


async def test_a_database_that_does_not_answer_is_down(postgres_url: str) -> None:
    gone = make_url(postgres_url).set(database="gone").render_as_string(hide_password=False)
    for url in ("postgresql://u@127.0.0.1:1/d", gone):
        async with health(url, a={"urls": [CLOSED]}) as asked:
            assert not (await asked.parts())["database"]


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


def _gone() -> dict[str, Any]:
    return {"kind": "vllm", "urls": [CLOSED], "model": "m"}
