"""The bench beside other gateways: its arithmetic, its fake and its callers, and one very short run."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import re
import subprocess
import sys
import tomllib
import xml.etree.ElementTree as ET
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
from aiohttp import web

from loadtests.bench.sidebyside.answers import LENGTHS, tokens
from loadtests.bench.sidebyside.arrivals import Arrivals
from loadtests.bench.sidebyside.client import requests, wrong
from loadtests.bench.sidebyside.closed import Closed, rates
from loadtests.bench.sidebyside.fake import Fake, fake
from loadtests.bench.sidebyside.figures import Cell, Measured, percentile, report, slowest
from loadtests.bench.sidebyside.passerelle import toml
from loadtests.bench.sidebyside.plot import plot
from loadtests.bench.sidebyside.table import table
from loadtests.bench.sidebyside.turns import Plan, mirrored

Answer = Callable[[web.Request], Awaitable[web.Response]]
RUN = {"plain_rps", "stream_tokens_per_s", "added_p50_ms", "added_p99_ms", "rss_mb"}


@asynccontextmanager
async def served(answer: Answer) -> AsyncIterator[str]:
    """A server that gives every request this answer."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


@pytest.mark.parametrize(("percent", "value"), [(50, 5), (51, 6), (90, 9), (99, 10), (100, 10), (1, 1), (0, 1)])
def test_a_percentile_is_a_value_that_was_measured(percent: float, value: float) -> None:
    assert percentile([10, 1, 9, 2, 8, 3, 7, 4, 6, 5], percent) == value


def test_a_steady_server_has_one_rate_in_every_part() -> None:
    assert rates(0.0, [0.01 * number for number in range(1, 301)], 16) == pytest.approx([100, 100, 100])


def test_answers_in_bursts_count_by_the_time_that_they_took() -> None:
    bursts = [at for at in (0.5, 1.0, 1.5) for _ in range(16)]
    assert rates(0.0, bursts, 16) == pytest.approx([32, 32, 32])


def test_a_pause_slows_the_part_that_it_is_in() -> None:
    assert rates(0.0, [1.0, 4.0, 4.5], 1) == pytest.approx([1, 1 / 3, 2])


def test_fewer_answers_than_three_for_each_connection_have_fewer_parts() -> None:
    assert rates(0.0, [2.0] * 8, 8) == [4]
    assert rates(0.0, [], 8) == [0.0]


def test_everybody_has_a_turn_and_another_in_mirrored_order() -> None:
    assert mirrored(["a", "b", "c"]) == ["a", "b", "c", "c", "b", "a"]


def test_a_plan_holds_every_combination() -> None:
    cells = Plan().cells()
    assert len(cells) == len(set(cells)) == 2 * 2 * 4


@pytest.mark.parametrize("count", LENGTHS)
def test_an_answer_has_as_many_tokens_as_it_says(count: int) -> None:
    assert len(tokens(count)) == count
    assert len(set(re.split(r"(?<=[.]) ", "".join(tokens(count))))) == "".join(tokens(count)).count(".")


def test_what_is_not_the_whole_answer_is_wrong() -> None:
    assert wrong(b"HTTP/1.1 200 OK\r\n\r\nVous ... changement.") == ""
    assert "429" in wrong(b"HTTP/1.1 429 Too Many\r\n\r\nVous ... changement.")
    assert wrong(b"HTTP/1.1 200 OK\r\n\r\nVous avez")


@pytest.mark.parametrize("count", LENGTHS)
async def test_the_fake_answers_plainly_and_in_a_stream(count: int) -> None:
    async with fake() as upstream, aiohttp.ClientSession() as session:
        texts = []
        for stream in (False, True):
            asked = {"model": "m", "messages": [], "max_tokens": count, "stream": stream}
            async with session.post(f"{upstream.url}/chat/completions", json=asked) as answer:
                texts.append(await answer.text())
        plain = json.loads(texts[0])
        chunks = [json.loads(line[6:]) for line in texts[1].splitlines() if line.startswith("data: {")]
        deltas = [choice["delta"].get("content") for chunk in chunks for choice in chunk["choices"]]
        assert plain["choices"][0]["message"]["content"] == "".join(text or "" for text in deltas)
        assert plain["usage"] == chunks[-1]["usage"]
        assert plain["usage"]["completion_tokens"] == len([text for text in deltas if text]) == count
        assert texts[1].endswith("data: [DONE]\n\n")


async def test_a_body_in_chunks_is_read_to_its_end() -> None:
    head = b"POST /v1/chat/completions HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    first, second = b'{"messages": [], ', b'"max_tokens": 128}'
    async with fake() as upstream, aiohttp.ClientSession() as session:
        reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(upstream.url).port)
        writer.write(head + b"%x\r\n%b\r\n" % (len(first), first))
        async with session.get(f"{upstream.url}/models") as answer:  # by then the fake has read what is there
            assert answer.status == 200
        writer.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(second), second))
        length = re.search(rb"content-length: (\d+)", await reader.readuntil(b"\r\n\r\n"))
        assert length is not None
        assert json.loads(await reader.readexactly(int(length[1])))["usage"]["completion_tokens"] == 128
        writer.close()
        await writer.wait_closed()


def asked(upstream: Fake, *, stream: bool = False, count: int = 16) -> Any:
    return requests(upstream.url, {}, count, stream=stream)


@pytest.mark.parametrize("stream", [False, True])
async def test_the_closed_loop_counts_whole_answers(*, stream: bool) -> None:
    async with fake() as upstream:
        found = await Closed(upstream.url, asked(upstream, stream=stream, count=128), 0.02, 0.2).run(4)
    assert found.problems.count == 0
    assert min(found.per_second) > 100


async def test_a_slow_server_is_measured_until_every_connection_has_answered_in_every_part() -> None:
    """Four connections, streams of 30 ms and more: in the 10 ms asked for there would be none."""
    async with fake() as upstream:
        upstream.pace = 0.002
        found = await Closed(upstream.url, asked(upstream, stream=True), 0.0, 0.01).run(4)
    assert len(found.per_second) == 3
    assert 1 < min(found.per_second) <= percentile(found.per_second, 50) < 4 / 0.03 * 1.1


async def test_an_answer_that_is_not_the_fakes_is_a_problem_and_does_not_count() -> None:
    async def refuse(_: web.Request) -> web.Response:
        return web.json_response({"error": "no"}, status=429)

    async with served(refuse) as url:
        found = await Closed(url, requests(url, {}, 16, stream=False), 0.0, 0.1).run(2)
    assert found.per_second == [0.0]
    assert found.problems.count > 0
    assert "429" in found.problems.first


async def test_a_lost_connection_ends_the_measurement_and_is_told() -> None:
    async def drop(request: web.Request) -> web.Response:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    async with served(drop) as url:
        found = await Closed(url, requests(url, {}, 16, stream=False), 0.0, 5.0).run(2)
    assert found.problems.count == 2
    assert "lost" in found.problems.first


async def test_a_request_that_had_to_wait_counts_from_when_it_was_due() -> None:
    """One connection, answers of 30 ms, an arrival every 10 ms: each waits 20 ms longer than the one before."""
    async with fake() as upstream:
        upstream.pace = 0.002  # sixteen tokens
        measured = Arrivals(upstream.url, asked(upstream, stream=True), rate=100, connections=1)
        times = await measured.run(0.0, 0.2)
    assert len(times.whole) == 20
    service = min(times.whole)
    assert service >= 0.028
    for number, (earlier, later) in enumerate(itertools.pairwise(times.whole)):
        assert later > earlier, number
    assert times.whole[-1] >= 20 * 0.028 - 19 * 0.01


async def test_a_server_with_room_answers_at_once() -> None:
    async with fake() as upstream:
        times = await Arrivals(upstream.url, asked(upstream), rate=100, connections=8).run(0.1, 0.2)
    assert len(times.whole) == 20  # those of the warm-up do not count
    assert percentile(times.whole, 50) < 0.05


async def test_a_stream_is_timed_to_its_first_word_and_from_there() -> None:
    async with fake() as upstream:
        upstream.pace = 0.005
        times = await Arrivals(upstream.url, asked(upstream, stream=True), rate=20, connections=8).run(0.0, 0.2)
    assert len(times.whole) == len(times.first) == len(times.rest) == 4
    assert min(times.rest) >= 15 * 0.004
    assert percentile(times.first, 50) < 0.05
    assert times.whole == pytest.approx([first + rest for first, rest in zip(times.first, times.rest, strict=True)])


def measured(per_second: float, milliseconds: float) -> Measured:
    given = {Cell(stream, 16, 16): [per_second, per_second * 3, per_second * 2] for stream in (False, True)}
    return Measured(rates=given, plain=[milliseconds] * 99 + [milliseconds * 10], rss=[50.0, 70.0])


def found() -> dict[str, Any]:
    direct = measured(1000, 0.25)
    direct.rss = [0.0, 0.0]
    return report({"direct": direct, "bare": measured(100, 2.25)}, {"plain": 50.0}, {"cores": 2})


def test_the_json_holds_medians_and_what_is_added_to_direct() -> None:
    runs = found()["runs"]
    assert set(runs["direct"]) == set(runs["bare"]) == RUN
    assert runs["bare"] == {
        "plain_rps": 200, "stream_tokens_per_s": 3200, "added_p50_ms": 2.0, "added_p99_ms": 2.0, "rss_mb": 60,
    }  # fmt: skip
    assert runs["direct"]["added_p50_ms"] == runs["direct"]["rss_mb"] == 0
    cells = found()["cells"]["bare"]
    assert cells["stream, 16 tokens, 16 connections"] == {"tokens_per_s": 3200, "least": 1600, "most": 4800}


def test_streams_at_the_rate_add_two_figures() -> None:
    direct, bare = measured(1000, 1), measured(100, 2)
    for each, first in ((direct, 1.0), (bare, 3.0)):
        each.first, each.inter_token = [first] * 3, [first / 2] * 3
    run = report({"direct": direct, "bare": bare}, {}, {})["runs"]["bare"]
    assert (run["added_ttft_ms"], run["added_inter_token_ms"]) == (2.0, 1.0)


def test_the_slowest_one_sets_the_rate() -> None:
    assert slowest({"a": measured(100, 1), "b": measured(30, 1)}, stream=False) == 60


def test_the_table_and_the_plot_name_everybody() -> None:
    text = table(found())
    assert "| bare | 200 | 3,200 | 2.00 | 2.00 | 60 |" in text.splitlines()
    drawn = ET.fromstring(plot(found()))  # noqa: S314  # our own
    assert {"direct", "bare"} <= {each.text for each in drawn.iter("{http://www.w3.org/2000/svg}text")}


def test_a_configuration_is_written_as_toml() -> None:
    tables: dict[str, dict[str, Any]] = {
        "limits": {"concurrent": 3, "tenant": {"concurrent": 4}},
        "targets": {"a": {"urls": ["x"]}},
        "guards": {},
    }
    assert tomllib.loads(toml(tables)) == tables


def test_a_run_writes_what_it_measured(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "loadtests.bench.sidebyside", "--quick", "--only", "bare"]
    files = [f"--{kind}={tmp_path / kind}" for kind in ("json", "table", "plot")]
    times = ["--seconds", "0.1", "--arrivals-seconds", "0.1"]
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [*command, *files, *times], cwd=root, env={**os.environ, "PYTHONPATH": str(root)}, capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "wrong" not in done.stderr
    written = json.loads((tmp_path / "json").read_text())
    assert set(written["runs"]) == {"direct", "bare"}
    assert written["runs"]["direct"]["plain_rps"] > written["runs"]["bare"]["plain_rps"] > 0
    assert written["runs"]["bare"]["added_p50_ms"] > 0
    assert written["runs"]["bare"]["rss_mb"] > 20
    assert done.stdout == (tmp_path / "table").read_text()
    assert (tmp_path / "plot").read_text().startswith("<svg")


def test_a_contestant_that_there_is_not_is_refused() -> None:
    command = [sys.executable, "-m", "loadtests.bench.sidebyside", "--only", "kong"]
    done = subprocess.run(
        command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert "no contestant: kong; there are direct, bare" in done.stderr
