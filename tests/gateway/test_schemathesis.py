"""What a running gateway says of itself at /openapi.json, held against what it does: requests made up from the document."""

import asyncio
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import pytest
import structlog
from fastapi import FastAPI, Response
from fastapi.responses import JSONResponse, PlainTextResponse

from auth.passwords import Passwords
from auth.principal import HOUSE, scopes_of
from auth.store import UserStore
from gateway.access import PUBLIC
from gateway.app import create_app
from gateway.settings import Settings
from tests.gateway.test_completions import goes_on
from tests.gateway.test_embeddings import vectors
from tests.house import House, house
from tests.loopback import serve
from tests.upstream import Exchange, chunk, usage

FRENCH = "Voici une réponse tout à fait française. "
PROGRAM = Path(sys.executable).with_name("schemathesis")
TASKS = {"tasks": ["chat", "completions", "embeddings"]}
ANY: dict[str, Any] = {
    "targets": {"any": {"kind": "vllm", "urls": ["http://127.0.0.1:9/v1"], "model": "any"}},
    "models": {"any": {"targets": ["any"]}},
}
USER, PASSWORD = "zoe", "sept chevaux bleus sur la colline"  # the examples of the document


class Found(NamedTuple):
    """The exit status (0: nothing found), what was printed, and the statuses that each operation answered with."""

    status: int
    printed: str
    answered: dict[str, Counter[int]]


async def checked(url: str, folder: Path, *options: str) -> Found:
    """Run it in a folder where no configuration is found, and where it leaves what it keeps for a next time."""
    report = folder / "events.ndjson"
    running = await asyncio.create_subprocess_exec(
        *(PROGRAM, "run", f"{url}/openapi.json", "--no-color"),
        # All checks but one: a schema cannot say that a password is weak, that an hour has passed, or that a part of a message
        # has the field of its type and no other, so some requests that fit the document are refused with reason.
        *("--checks", "all", "--exclude-checks", "positive_data_acceptance"),
        *("--generation-deterministic", "--max-examples", "20", "--no-shrink", "--continue-on-failure"),
        *("--report", "ndjson", "--report-ndjson-path", str(report)),
        *options,
        cwd=folder,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        printed, _ = await running.communicate()
    finally:
        if running.returncode is None:
            running.kill()
            await running.wait()
    return Found(running.returncode or 0, printed.decode(errors="replace"), answered(report))


def answered(report: Path) -> dict[str, Counter[int]]:
    """How often each operation was answered with each status; 0 is no answer."""
    counted: dict[str, Counter[int]] = {}
    for event in map(json.loads, report.read_text().splitlines()):
        recorder = event.get("ScenarioFinished", {}).get("recorder", {})
        for name, exchange in recorder.get("interactions", {}).items():
            asked = recorder["cases"][name]["value"]
            counts = counted.setdefault(f"{asked['method']} {asked['path']}", Counter())
            counts[(exchange["response"] or {}).get("status_code", 0)] += 1
    return counted


def served(found: Found) -> set[str]:
    """The operations that were answered with a success."""
    return {asked for asked, statuses in found.answered.items() if any(200 <= status < 300 for status in statuses)}


async def document(url: str) -> dict[str, Any]:
    async with aiohttp.ClientSession() as session, session.get(f"{url}/openapi.json") as read:
        told: dict[str, Any] = await read.json()
        return told


def operations(told: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {f"{way.upper()} {path}": of for path, ways in told["paths"].items() for way, of in ways.items()}


async def answer(exchange: Exchange) -> None:
    """Whatever a model server is asked for, in French."""
    asked = exchange.body
    if "input" in asked:
        await vectors(len(asked["input"]) if isinstance(asked["input"], list) else 1)(exchange)
    elif "prompt" in asked:
        await goes_on(FRENCH)(exchange)
    else:
        await exchange.head()
        for index in range(asked.get("n") or 1):
            await exchange.text(FRENCH, index=index)
            await exchange.event(chunk({}, index=index, finish="stop"))
        await exchange.event(usage(7, 9))
        await exchange.event("[DONE]")
        await exchange.end()


async def explored(
    folder: Path, who: dict[str, Any] | None, *options: str
) -> tuple[Found, dict[str, dict[str, Any]], list[str]]:
    """What nobody, or the holder of a token, finds in a gateway; its operations; and what its own log calls an error.

    `who` are claims that differ from those of a user who is really there.
    """
    unlimited = {"login_per_minute": 0, "token_requests_per_minute": 0}
    patient = {"first_content": 20, "idle": 20}
    targets = {"local": TASKS, "outside": TASKS}
    with (
        structlog.testing.capture_logs() as log
    ):  # printing it takes longer than the rest: a traceback with all values, 10 s
        async with house(folder, auth=unlimited, times=patient, targets=targets) as home:
            home.local.answers(answer)
            home.outside.answers(answer)
            user = await UserStore(home.engine).add(USER, await Passwords().hash(PASSWORD), tenant="acme")
            token = None if who is None else home.token(**{"subject": user.id, **who})
            header = () if token is None else ("--header", f"Authorization: Bearer {token}")
            found = await checked(home.url, folder, *header, *options)
            told = operations(await document(home.url))
    return found, told, [entry["event"] for entry in log if entry["log_level"] in ("error", "critical")]


async def test_an_administrator_finds_nothing_but_what_is_documented(tmp_path: Path) -> None:
    root = {"subject": "root", "scopes": scopes_of("admin", HOUSE), "tenant": HOUSE}
    found, told, errors = await explored(tmp_path, root)
    assert found.status == 0, found.printed
    assert errors == []
    # Keys of one's own are for users, and root is in no database; whoever asks for a token has none to show. See below.
    # Which ids are put into paths is drawn from those of earlier answers: some operations may not meet one that exists.
    missed = set(told) - served(found)
    assert {asked for asked in missed if "_id}" not in asked} == {"POST /auth/keys", "POST /auth/token"}
    assert len({asked for asked in missed if "_id}" in asked}) <= 2


async def test_a_user_finds_nothing_but_what_is_documented(tmp_path: Path) -> None:
    found, told, errors = await explored(tmp_path, {}, "--include-path-regex", "^/auth/keys")
    assert found.status == 0, found.printed
    assert errors == []
    assert served(found) >= {"GET /auth/keys", "POST /auth/keys"}
    assert set(found.answered) >= {asked for asked in told if " /auth/keys" in asked}


async def test_nobody_finds_nothing_but_what_is_documented_and_comes_in_where_it_is_public(tmp_path: Path) -> None:
    found, told, errors = await explored(tmp_path, None)
    assert found.status == 0, found.printed
    assert errors == []
    assert set(found.answered) >= set(told)
    assert served(found) == {asked for asked in told if asked.partition(" ")[2] in PUBLIC}


async def test_what_is_not_as_documented_is_found(tmp_path: Path) -> None:
    app = FastAPI()
    told: dict[int | str, dict[str, Any]] = {
        200: {
            "description": "Something.",
            "content": {"application/json": {"schema": {"type": "object", "required": ["id"]}}},
        }
    }

    @app.get("/broken", responses=told)
    async def broken() -> Response:
        raise RuntimeError

    @app.get("/teapot", responses=told)
    async def teapot() -> Response:
        return JSONResponse({}, 418)

    @app.get("/text", responses=told)
    async def text() -> Response:
        return PlainTextResponse("{}")

    @app.get("/misshapen", responses=told)
    async def misshapen() -> Response:
        return JSONResponse({"name": "nobody"})

    @app.get("/sound", responses=told)
    async def sound() -> Response:
        return JSONResponse({"id": 1})

    async with serve(app, log_level="critical") as url:
        found = await checked(url, tmp_path)
    assert found.status == 1, found.printed
    for path, finding in {
        "broken": "Server error",
        "teapot": "Undocumented status code",
        "text": "Undocumented Content-Type",
        "misshapen": "Response violates schema",
    }.items():
        assert finding in section(found.printed, f"GET /{path}")
    assert not section(found.printed, "GET /sound")


def section(printed: str, operation: str) -> str:
    """What is reported of an operation."""
    lines, within = [], False
    for line in printed.splitlines():
        if line.startswith(("___", "===")):
            within = line.strip("_ ") == operation
        elif within:
            lines.append(line)
    return "\n".join(lines)


async def test_the_document_is_whole(home: House) -> None:
    told = await document(home.url)
    assert (told["info"]["title"], "servers" in told) == ("Passerelle", False)
    assert told["info"]["version"]
    assert told["info"]["description"]
    assert "422" not in json.dumps(told)
    assert "HTTPValidationError" not in json.dumps(told)
    secured = {path for asked, of in operations(told).items() for path in [asked.split()[1]] if of.get("security")}
    assert secured == set(told["paths"]) - PUBLIC
    for asked, of in operations(told).items():
        assert of["summary"], asked
        for status, said in of["responses"].items():
            shapes = [
                content.get("schema") or content.get("itemSchema") for content in said.get("content", {}).values()
            ]
            assert all(shape and shape != {"type": "object"} for shape in shapes), (asked, status)


@pytest.mark.parametrize(
    ("method", "path", "status", "allowed"),
    [
        ("GET", "/nowhere", 404, None),
        ("PUT", "/admin/users", 405, "GET, POST"),
        ("PUT", "/admin/users/1", 405, "GET, PATCH"),
        ("OPTIONS", "/auth/keys/1", 405, "DELETE"),
        ("DELETE", "/v1/chat/completions", 405, "POST"),
        ("POST", "/v1/models/a/b", 405, "GET"),
    ],
)
async def test_other_paths_and_methods_are_refused_in_the_same_form(
    home: House, method: str, path: str, status: int, allowed: str | None
) -> None:
    async with aiohttp.ClientSession() as session, session.request(method, home.url + path) as refused:
        assert (refused.status, refused.headers.get("allow")) == (status, allowed)
        assert set((await refused.json())["error"]) == {"message", "type", "param", "code"}


async def test_a_failure_that_nobody_foresaw_is_answered_and_logged_under_the_request_s_id(tmp_path: Path) -> None:
    app = create_app(Settings(**{"state": {"directory": tmp_path}, **ANY}))

    @app.get("/broken")
    async def broken() -> None:
        raise RuntimeError("a detail of the inside")

    with structlog.testing.capture_logs() as log:
        async with (
            serve(app, log_level="critical") as url,
            aiohttp.ClientSession() as session,
            session.get(f"{url}/broken", headers={"x-request-id": "mine"}) as failed,
        ):
            assert (failed.status, failed.headers["x-request-id"]) == (500, "mine")
            assert failed.headers["x-content-type-options"] == "nosniff"
            assert (await failed.json())["error"]["code"] == "internal_error"
            assert "inside" not in await failed.text()
    logged = [(entry["event"], entry["request_id"]) for entry in log if "request_id" in entry]
    assert logged == [("internal_error", "mine"), ("request", "mine")]
    assert log[-1]["status"] == 500


@pytest.mark.parametrize("end", ["9999-12-31T23:59:59-23:00", "0001-01-01T00:00:00+23:00", "2000-01-01T00:00:00Z"])
async def test_a_key_s_end_outside_the_calendar_is_refused_like_one_that_has_passed(home: House, end: str) -> None:
    headers = {"authorization": f"Bearer {home.token()}"}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.post(f"{home.url}/auth/keys", json={"name": "notebook", "expires_at": end}) as refused,
    ):
        assert (refused.status, (await refused.json())["error"]["param"]) == (400, "expires_at")
