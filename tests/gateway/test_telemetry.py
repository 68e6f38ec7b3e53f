import io
import json
import logging
from collections.abc import Iterator
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

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


def test_other_libraries_log_through_the_same_formatter(lines: io.StringIO) -> None:
    logging.getLogger("some.library").warning("it is %s", "late")
    (line,) = logged(lines, "it is late")
    assert (line["logger"], line["level"]) == ("some.library", "warning")
