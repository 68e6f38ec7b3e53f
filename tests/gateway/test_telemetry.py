import asyncio
import io
import json
import logging
import select
from collections.abc import Iterator
from contextlib import redirect_stderr
from datetime import datetime
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock

import aiohttp
import pytest
import structlog
from starlette.types import ASGIApp, Receive, Scope, Send

from auth import Principal
from gateway.exchange import Attempt, Exchange, Outcome, State
from gateway.logs import configure_logging
from gateway.metrics import Metrics
from gateway.telemetry import Telemetry, Trace
from tests.loopback import serve

DOCUMENT = Path(__file__).parents[2] / "docs" / "monitoring.md"


def exchange(**fields: Any) -> Exchange:
    served = Attempt("local", firm=True, outcome=Outcome.SERVED, prompt_tokens=10, completion_tokens=5)
    drifted = Attempt("local", firm=False, outcome=Outcome.DRIFTED, prompt_tokens=9, completion_tokens=3)
    ended: dict[str, Any] = {"state": State.COMPLETED, "first_text": 100.2, "ended": 101.0, "model": "m", **fields}
    return Exchange("id", "req", 100.0, "acme", "alice", attempts=[drifted, served], **ended)


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """What is logged, through the program's own formatter; the logging of the tests comes back afterwards."""
    root = logging.getLogger()
    handlers, level, access = root.handlers, root.level, logging.getLogger("uvicorn.access").disabled
    with redirect_stderr(io.StringIO()) as written:
        configure_logging()
    yield written
    root.handlers, logging.getLogger("uvicorn.access").disabled = handlers, access
    root.setLevel(level)
    structlog.reset_defaults()


def logged(written: io.StringIO, event: str = "request") -> list[dict[str, Any]]:
    return [line for line in map(json.loads, written.getvalue().splitlines()) if line["event"] == event]


async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    trace: Trace = scope["passerelle"]
    trace.know(Principal("alice", "acme", frozenset()))
    trace.exchange = exchange()
    await send({"type": "http.response.start", "status": 207, "headers": []})
    await send({"type": "http.response.body", "body": trace.request_id.encode()})


async def ask(app: ASGIApp, headers: dict[str, str], metrics: Metrics | None = None) -> tuple[str | None, str]:
    """The request id in the answer's header, and the one the application saw."""
    telemetry = Telemetry(app, metrics or Metrics())
    async with (
        serve(telemetry, lifespan="off") as url,
        aiohttp.ClientSession() as session,
        session.get(f"{url}/v1/x?secret=1", headers=headers) as answer,
    ):
        return answer.headers.get("x-request-id"), await answer.text()


@pytest.mark.parametrize("given", ["abc", "a.b:c_d-9", "x" * 128])
async def test_a_caller_s_request_id_is_kept(given: str) -> None:
    assert await ask(hello, {"x-request-id": given}) == (given, given)


@pytest.mark.parametrize("given", ["", "x" * 129, "a b", "é", 'a"b', "a/b", "<script>"])
async def test_a_request_id_that_could_do_harm_is_replaced(given: str) -> None:
    told, seen = await ask(hello, {"x-request-id": given})
    assert told == seen != given
    assert told.startswith("req_")


async def test_a_request_without_an_id_gets_one_of_its_own() -> None:
    (first, _), (second, _) = await ask(hello, {}), await ask(hello, {})
    assert first != second


async def test_each_request_has_one_line_that_says_what_happened_and_no_secret(lines: io.StringIO) -> None:
    await ask(hello, {"authorization": "Bearer hidden", "x-request-id": "abc"})
    (line,) = logged(lines)
    assert (line["request_id"], line["method"], line["path"], line["status"]) == ("abc", "GET", "/v1/x", 207)
    assert (line["tenant"], line["subject"], line["model"], line["target"]) == ("acme", "alice", "m", "local")
    assert (line["state"], line["repairs"], line["completion_tokens"]) == ("completed", 1, 5)
    assert (line["level"], line["seconds"] >= 0) == ("info", True)
    assert "hidden" not in lines.getvalue()
    assert "secret" not in lines.getvalue()


async def test_the_document_names_every_field_of_that_line(lines: io.StringIO) -> None:
    await ask(hello, {})
    (line,) = logged(lines)
    table = DOCUMENT.read_text(encoding="utf-8").partition("\n## The log\n")[2]
    rows = [row.split("|")[1] for row in table.splitlines() if row.startswith("|")][2:]
    assert {name.strip() for row in rows for name in row.split(",")} == set(line)


async def test_a_request_that_breaks_is_logged_too_and_no_longer_counts_as_under_way(lines: io.StringIO) -> None:
    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        raise RuntimeError("broken")

    metrics = Metrics()
    await ask(broken, {"x-request-id": "abc"}, metrics)
    assert [line["status"] for line in logged(lines)] == [0]
    assert b"\npasserelle_requests_in_flight 0.0\n" in metrics.render()


def test_the_short_way_writes_what_the_long_one_does(lines: io.StringIO) -> None:
    fields = {"request_id": "abc", "status": 200, "lost": ["local: é\n"], "tenant": None}
    with redirect_stderr(io.StringIO()) as short:
        write = configure_logging()
    write("request", [fields, {"request_id": "def"}])
    with redirect_stderr(io.StringIO()) as long:
        configure_logging()
    structlog.get_logger().info("request", **fields)
    structlog.get_logger().info("request", request_id="def")
    pairs = [*zip(logged(short), logged(long), strict=True)]
    for one, other in pairs:
        assert list(one) == list(other)
        assert datetime.fromisoformat(one.pop("timestamp")) <= datetime.fromisoformat(other.pop("timestamp"))
        assert one == other
    assert len(pairs) == 2


class Pipe(io.StringIO):
    """Notes what is written piece by piece."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[str] = []

    def write(self, text: str) -> int:
        self.pieces.append(text)
        return super().write(text)


def test_lines_leave_together_as_far_as_a_pipe_takes_them_whole(lines: io.StringIO) -> None:
    with redirect_stderr(Pipe()) as pipe:
        write = configure_logging()
    sizes = [10, 700, 700, 700, 700, 700, 700, 5000, 10, 10]
    write("request", [{"request_id": "é" * size} for size in sizes])
    assert len(logged(pipe)) == len(sizes)
    assert all(piece.endswith("}\n") for piece in pipe.pieces)
    written = [len(piece.encode()) for piece in pipe.pieces]
    assert [size for size in written if size > select.PIPE_BUF] == [len(pipe.pieces[-2].encode())]  # one line by itself
    assert len(pipe.pieces) == 5


async def test_a_request_that_cannot_be_told_of_does_not_take_the_others_with_it(lines: io.StringIO) -> None:
    async def odd(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/odd":
            scope["passerelle"].exchange = object()

    telemetry = Telemetry(odd, Metrics())
    for path in ("/odd", "/even"):
        await telemetry({"type": "http", "method": "GET", "path": path, "headers": []}, AsyncMock(), AsyncMock())
    await asyncio.sleep(0)
    assert [line["path"] for line in logged(lines)] == ["/even"]
    assert len(logged(lines, "request_not_told")) == 1


def test_the_short_way_keeps_to_the_level(lines: io.StringIO) -> None:
    with redirect_stderr(io.StringIO()) as written:
        configure_logging("WARNING")("request", [{"request_id": "abc"}])
    assert written.getvalue() == ""


async def test_requests_that_end_together_have_their_lines_in_order_and_each_its_own_context() -> None:
    seen: list[tuple[str, list[str]]] = []

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        await gate.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})

    def write(event: str, fields: list[dict[str, Any]]) -> None:
        seen.append((event, [f"{each['request_id']} {each['trace_id']}" for each in fields]))

    async def one(name: bytes) -> None:
        scope = {"type": "http", "method": "GET", "path": "/", "headers": [(b"x-request-id", name)]}
        with structlog.contextvars.bound_contextvars(trace_id=f"of {name.decode()}"):
            await telemetry(scope, AsyncMock(), AsyncMock())

    gate, telemetry = asyncio.Event(), Telemetry(answer, Metrics(), write=write)
    tasks = [asyncio.create_task(one(name)) for name in (b"a", b"b")]
    await asyncio.sleep(0)
    gate.set()
    await asyncio.gather(*tasks)
    await asyncio.sleep(0)
    assert seen == [("request", ["a of a", "b of b"])]


def test_other_libraries_log_through_the_same_formatter(lines: io.StringIO) -> None:
    logging.getLogger("some.library").warning("it is %s", "late")
    (line,) = logged(lines, "it is late")
    assert (line["logger"], line["level"]) == ("some.library", "warning")
