"""Whose trace a request belongs to, and collectors that are away, broken or hang."""

import time
from pathlib import Path

import aiohttp
import pytest
from structlog.testing import capture_logs

from tests.collector import Collector
from tests.gateway.test_tracing import CHAT, PARENT, TRACE, ask, traced
from tests.house import House, house
from tests.vllm_server import free_port


async def asked_with(home: House, **headers: str) -> dict[str, str]:
    """A chat within a caller's trace; the headers that the model server got."""
    await ask(home, extra_headers=headers)
    return home.local.asked[-1].headers


@pytest.mark.parametrize("flag", ["00", "01"])
async def test_a_caller_s_trace_goes_on_but_its_flag_and_state_count_for_nothing(
    tmp_path: Path, traces: Collector, flag: str
) -> None:
    async with traced(tmp_path, traces) as home:
        told = await asked_with(home, traceparent=f"00-{TRACE}-{PARENT}-{flag}", tracestate="vendor=48151623")
    root = traces.only(CHAT)
    assert (root.trace, root.parent) == (TRACE, PARENT)
    assert told["traceparent"].startswith(f"00-{TRACE}-{traces.only('chat falcon').id}-")
    assert "tracestate" not in told
    assert b"48151623" not in traces.received


# The usual sampler records all traces whose id ends so, if it records any.
@pytest.mark.parametrize("trace", [TRACE, f"{TRACE[:16]}{'0' * 16}"])
async def test_nobody_can_have_a_request_recorded(tmp_path: Path, traces: Collector, trace: str) -> None:
    async with traced(tmp_path, traces, tracing={"ratio": 1e-9}) as home:
        told = await asked_with(home, traceparent=f"00-{trace}-{PARENT}-01")
    assert traces.spans == []
    assert told["traceparent"][:35] == f"00-{trace}"
    assert int(told["traceparent"][-2:], 16) & 1 == 0  # the model server does not record it either


@pytest.mark.parametrize(("flag", "ratio", "spans"), [("01", 0, 1), ("00", 1, 0)])
async def test_a_trusted_caller_decides(tmp_path: Path, traces: Collector, flag: str, ratio: int, spans: int) -> None:
    async with traced(tmp_path, traces, tracing={"trust_callers": True, "ratio": ratio}) as home:
        told = await asked_with(home, traceparent=f"00-{TRACE}-{PARENT}-{flag}", tracestate="vendor=a")
    assert len(traces.named(CHAT)) == spans
    assert told["tracestate"] == "vendor=a"


@pytest.mark.parametrize("given", ["", "00-x-y-01", f"00-{'0' * 32}-{PARENT}-01", f"ff-{TRACE}-{PARENT}-01", "é" * 600])
async def test_nonsense_begins_a_trace_of_its_own(tmp_path: Path, traces: Collector, given: str) -> None:
    async with traced(tmp_path, traces) as home, aiohttp.ClientSession() as session:
        headers = {"authorization": f"Bearer {home.token()}", "traceparent": given}
        async with session.get(f"{home.url}/v1/models", headers=headers) as answer:
            assert answer.status == 200
    span = traces.only("GET /v1/models")
    assert (span.parent, span.trace == TRACE) == ("", False)


async def test_the_share_that_is_recorded_is_the_configured_one(tmp_path: Path, traces: Collector) -> None:
    async with traced(tmp_path, traces, tracing={"ratio": 0.5}) as home, aiohttp.ClientSession() as session:
        for _ in range(200):
            await session.get(f"{home.url}/v1/models", headers={"authorization": f"Bearer {home.token()}"})
    assert 60 <= len(traces.spans) <= 140  # outside with a chance below one in a million


async def test_the_probes_of_machines_are_not_traced(tmp_path: Path, traces: Collector) -> None:
    async with traced(tmp_path, traces) as home, aiohttp.ClientSession() as session:
        for path in ("livez", "readyz", "metrics", "v1/nothing", "v1/models/a/b"):
            await session.get(f"{home.url}/{path}")
    assert {span.attributes.get("http.route") for span in traces.spans} == {None, "/v1/models/{name:path}"}


async def test_a_method_that_http_itself_does_not_know_names_no_span(tmp_path: Path, traces: Collector) -> None:
    async with traced(tmp_path, traces) as home, aiohttp.ClientSession() as session:
        await session.request("PROPFIND", f"{home.url}/v1/models")
    (span,) = traces.spans
    assert span.name.split()[0] == "HTTP"
    assert span.attributes["http.request.method"] == "_OTHER"


async def test_a_collector_that_is_away_costs_the_requests_nothing_and_the_log_one_line(tmp_path: Path) -> None:
    tracing = {"endpoint": f"http://127.0.0.1:{free_port()}", "ratio": 1, "timeout_seconds": 1, "queue": 8}
    with capture_logs() as lines:
        async with house(tmp_path, tracing=tracing) as home:
            for _ in range(20):
                assert (await home.client().models.list()).data
    trouble = [line for line in lines if line["event"] == "traces_in_trouble"]
    assert len(trouble) == 2
    assert trouble[0]["left_out"] == 0
    assert trouble[1]["left_out"] > 0


@pytest.mark.parametrize("status", [500, 503])
async def test_a_collector_that_is_broken_costs_the_requests_nothing(
    tmp_path: Path, traces: Collector, status: int
) -> None:
    traces.status = status
    began = time.monotonic()
    async with traced(tmp_path, traces, tracing={"timeout_seconds": 1}) as home:
        await ask(home)
        assert len(home.local.asked) == 1
    assert traces.requests >= 1
    assert time.monotonic() - began < 6


async def test_a_collector_that_hangs_holds_up_neither_requests_nor_the_end(tmp_path: Path, traces: Collector) -> None:
    traces.open.clear()
    with capture_logs() as lines:
        async with traced(tmp_path, traces, tracing={"timeout_seconds": 3, "queue": 8}) as home:
            for _ in range(20):  # more than the queue holds, so that an export is under way, and more is to be sent
                began = time.monotonic()
                assert (await home.client().models.list()).data
                assert time.monotonic() - began < 1
            began = time.monotonic()
        assert time.monotonic() - began < 5  # each of the two exports would take 3
    assert "traces_lost" in {line["event"] for line in lines}
    assert traces.spans == []
    traces.open.set()
