import io
import json
import logging
from collections.abc import Iterator
from contextlib import redirect_stderr
from typing import Any

import aiohttp
import pytest
import structlog
from prometheus_client.parser import text_string_to_metric_families
from starlette.types import ASGIApp, Receive, Scope, Send

from auth import Principal
from gateway.exchange import Attempt, Exchange, Outcome, State
from gateway.logs import configure_logging
from gateway.telemetry import Metrics, Telemetry, Trace
from tests.loopback import serve


def exchange(**fields: Any) -> Exchange:
    served = Attempt("local", firm=True, outcome=Outcome.SERVED, prompt_tokens=10, completion_tokens=5)
    drifted = Attempt("local", firm=False, outcome=Outcome.DRIFTED, prompt_tokens=9, completion_tokens=3)
    ended: dict[str, Any] = {"state": State.COMPLETED, "first_text": 100.2, "ended": 101.0, "model": "m", **fields}
    return Exchange("id", "req", 100.0, "acme", "alice", attempts=[drifted, served], **ended)


def samples(metrics: Metrics) -> dict[tuple[str, ...], float]:
    """Each sample by its name and labels, in this order: model, target, state, kind, bucket."""
    order = ("model", "target", "state", "kind", "le")
    families = text_string_to_metric_families(metrics.render().decode())
    return {
        (sample.name, *(sample.labels[label] for label in order if label in sample.labels)): sample.value
        for family in families
        for sample in family.samples
    }


def test_an_exchange_is_counted_once_in_every_metric() -> None:
    metrics = Metrics(frozenset({"m"}))
    metrics.observe(exchange())
    found = samples(metrics)
    assert found["passerelle_chats_total", "m", "local", "completed"] == 1
    assert found["passerelle_tokens_total", "m", "prompt"] == 19
    assert found["passerelle_tokens_total", "m", "completion"] == 8
    assert found["passerelle_repairs_total", "m"] == 1
    assert found["passerelle_chat_seconds_sum", "m"] == pytest.approx(1.0)
    assert found["passerelle_first_text_seconds_sum", "m"] == pytest.approx(0.2)


def test_the_state_of_each_replica_is_shown_as_it_is_when_asked() -> None:
    metrics, state = Metrics(frozenset()), {0: 0, 1: 2}
    for index in state:
        metrics.watch("local", index, lambda index=index: state[index])  # type: ignore[misc]
    shown = metrics.render().decode()
    assert 'passerelle_replica_state{replica="1",target="local"} 2.0' in shown
    state[1] = 1
    assert 'passerelle_replica_state{replica="1",target="local"} 1.0' in metrics.render().decode()
    assert 'passerelle_replica_state{replica="0",target="local"} 0.0' in shown


def test_what_is_gone_from_the_catalogue_is_shown_no_more() -> None:
    metrics = Metrics(frozenset({"m"}))
    metrics.watch("old", 0, lambda: 2)
    metrics.watch_probes("old", 0, lambda: True)
    metrics.follow(frozenset({"n"}))
    metrics.watch("new", 0, lambda: 0)
    metrics.watch_probes("new", 0, lambda: True)
    for model in ("m", "n"):
        metrics.observe(exchange(model=model))
    found = samples(metrics)
    assert {key[1] for key in found if key[0] == "passerelle_chats_total"} == {"unknown", "n"}
    assert found["passerelle_replica_down", "new"] == 1
    assert not any("old" in key for key in found)


def test_names_that_callers_invent_do_not_become_labels() -> None:
    metrics = Metrics(frozenset({"m"}))
    for number in range(100):
        metrics.observe(exchange(model=f"invented-{number}"))
    found = samples(metrics)
    assert found["passerelle_chats_total", "unknown", "local", "completed"] == 100
    assert not any("invented" in label for key in found for label in key)


def test_a_request_that_no_model_answered_is_counted_without_a_target() -> None:
    metrics = Metrics(frozenset({"m"}))
    refused = exchange(state=State.REFUSED, first_text=None)
    refused.attempts.clear()
    metrics.observe(refused)
    assert samples(metrics)["passerelle_chats_total", "m", "none", "refused"] == 1
    assert ("passerelle_first_text_seconds_sum", "m") not in samples(metrics)


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
    telemetry = Telemetry(app, metrics or Metrics(frozenset()))
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


async def test_a_request_that_breaks_is_logged_too_and_no_longer_counts_as_under_way(lines: io.StringIO) -> None:
    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        raise RuntimeError("broken")

    metrics = Metrics(frozenset())
    await ask(broken, {"x-request-id": "abc"}, metrics)
    assert [line["status"] for line in logged(lines)] == [0]
    assert samples(metrics)["passerelle_requests_in_flight",] == 0


def test_other_libraries_log_through_the_same_formatter(lines: io.StringIO) -> None:
    logging.getLogger("some.library").warning("it is %s", "late")
    (line,) = logged(lines, "it is late")
    assert (line["logger"], line["level"]) == ("some.library", "warning")
