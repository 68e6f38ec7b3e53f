"""Traces as a collector gets them: real gateway, real exporter, a small collector that decodes what is sent."""

import asyncio
import json
import logging
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes
from opentelemetry.semconv.attributes import error_attributes, http_attributes, url_attributes
from starlette.types import Receive, Scope, Send
from structlog.contextvars import merge_contextvars
from structlog.testing import capture_logs

from gateway.cli import main
from gateway.metrics import Metrics
from gateway.recorded import OPERATIONS
from gateway.settings import BadSettings, Settings, load
from gateway.telemetry import Telemetry
from gateway.trace_settings import Tracing
from gateway.tracing import Tracer
from tests.collector import Collector, Span
from tests.house import LOCAL_KEY, LOOKING_ON, MODEL, OUTSIDE_KEY, House, house
from tests.loopback import serve
from tests.upstream import Exchange, refuses, says

CHAT = "POST /v1/chat/completions"
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
FRENCH, ENGLISH = "Voici une réponse tout à fait française. ", "This is an answer that is wholly in English, sadly. "
QUESTION: list[Any] = [{"role": "user", "content": "Comment suivre mon avis numéro 48151623 ?"}]


@asynccontextmanager
async def traced(folder: Path, traces: Collector, **changes: Any) -> AsyncIterator[House]:
    """A gateway that records every request; what it has recorded is at the collector when it has stopped."""
    tracing = {"endpoint": traces.url, "ratio": 1, **changes.pop("tracing", {})}
    async with house(folder, tracing=tracing, **changes) as home:
        yield home


async def ask(home: House, **fields: Any) -> None:
    """One chat; how it ends is the spans' to say."""
    try:
        stream = await home.client().chat.completions.create(
            **{"model": MODEL, "messages": QUESTION, "stream": True, **fields}
        )
        if fields.get("stream", True):
            async for _ in stream:
                pass
    except openai.APIError:
        pass


def above(span: Span, parent: Span) -> bool:
    return (span.trace, span.parent) == (parent.trace, parent.id) and parent.began <= span.began <= parent.ended


async def test_a_request_is_one_span_with_one_below_it_for_each_step(tmp_path: Path, traces: Collector) -> None:
    async with traced(tmp_path, traces) as home:
        await ask(home)
        told = home.local.asked[0].headers
    root, call = traces.only(CHAT), traces.only("chat falcon")
    assert (root.kind, root.parent, root.service, root.failed) == ("server", "", "passerelle", False)
    assert all(above(traces.only(step), root) for step in ("guards", "limits", "queue", "chat falcon"))
    assert told["traceparent"].startswith(f"00-{call.trace}-{call.id}-")
    assert int(told["traceparent"][-2:], 16) & 1
    said = root.attributes
    assert said["passerelle.request_id"] == told["x-request-id"]
    assert (said["http.request.method"], said["http.route"]) == ("POST", "/v1/chat/completions")
    assert (said["http.response.status_code"], said["url.scheme"]) == (200, "http")
    assert (said["gen_ai.operation.name"], said["gen_ai.request.model"]) == ("chat", MODEL)
    assert (said["gen_ai.response.model"], said["gen_ai.request.stream"]) == ("falcon", True)
    assert (said["gen_ai.usage.input_tokens"], said["gen_ai.usage.output_tokens"]) == (7, 2)
    assert (said["passerelle.tenant"], said["passerelle.target"]) == ("acme", "local")
    assert (said["passerelle.state"], said["passerelle.repairs"]) == ("completed", 0)
    assert "language=passed" in said["passerelle.guards"]
    assert [name for name, _ in root.events] == ["first_text"]
    assert (call.kind, call.failed, [name for name, _ in call.events]) == ("client", False, ["first_chunk"])
    assert (call.attributes["gen_ai.provider.name"], call.attributes["gen_ai.request.model"]) == ("vllm", "falcon")
    assert (call.attributes["passerelle.replica"], call.attributes["passerelle.outcome"]) == (0, "served")
    assert 0 < call.attributes["gen_ai.response.time_to_first_chunk"] < (call.ended - call.began) / 1e9


async def test_tries_that_fail_and_repairs_can_be_seen(tmp_path: Path, traces: Collector) -> None:
    async with traced(tmp_path, traces) as home:
        home.local.answers(refuses(500), says(ENGLISH * 3), says(FRENCH))
        await ask(home)
        await ask(home)
    first, second = sorted(traces.named(CHAT), key=lambda span: span.began)
    assert [span.attributes["passerelle.target"] for span in (first, second)] == ["outside", "local"]
    failed, elsewhere, drifted, firm = traces.named("chat falcon", "chat gpt-3.5-turbo")
    assert (failed.failed, failed.attributes["passerelle.reason"]) == (True, "status 500")
    assert failed.attributes["error.type"] == "status 500"
    assert (elsewhere.failed, elsewhere.attributes["gen_ai.provider.name"]) == (False, "openai")
    assert [span.attributes["passerelle.outcome"] for span in (drifted, firm)] == ["drifted", "served"]
    assert [span.attributes["passerelle.firm"] for span in (drifted, firm)] == [False, True]
    assert not drifted.failed
    assert (failed.ended <= elsewhere.began, drifted.ended <= firm.began) == (True, True)
    repairs = [about for name, about in second.events if name == "repair"]
    assert repairs == [{"passerelle.target": "local", "passerelle.replica": 0}]
    assert not any(name == "repair" for name, _ in first.events)
    assert (second.attributes["passerelle.repairs"], first.failed, second.failed) == (1, False, False)


@pytest.mark.parametrize("tell", [False, True])
async def test_an_outside_target_is_told_nothing_unless_it_may_be(
    tmp_path: Path, traces: Collector, tell: bool
) -> None:
    async with traced(tmp_path, traces, tracing={"tell_outside": tell}) as home:
        home.local.answers(refuses(500))
        await ask(home)
        assert ("traceparent" in home.outside.asked[0].headers) is tell
        assert "traceparent" in home.local.asked[0].headers


async def cut(exchange: Exchange) -> None:
    await exchange.head()
    await exchange.text(FRENCH, FRENCH)
    exchange.cut()


async def silent(exchange: Exchange) -> None:
    await exchange.head()
    await exchange.text(FRENCH, FRENCH)
    await exchange.closed.wait()


async def leaves(home: House) -> None:
    """A caller who goes away in mid-answer."""
    home.local.answers(silent)
    stream = await home.client().chat.completions.create(model=MODEL, messages=QUESTION, stream=True)
    await anext(aiter(stream))
    await stream.close()
    await asyncio.wait_for(home.local.asked[0].closed.wait(), 5)


async def cut_short(home: House) -> None:
    home.local.answers(cut)
    await ask(home)


async def banned(home: House) -> None:
    home.local.answers(says(FRENCH, "Et le mot zorglub que voici. ", FRENCH))
    await ask(home)


async def refused(home: House) -> None:
    await ask(home, model="un modèle inventé")


async def all_down(home: House) -> None:
    home.local.answers(refuses(500))
    home.outside.answers(refuses(500))
    await ask(home)


async def too_long(home: House) -> None:
    home.local.answers(
        refuses(400, {"error": {"message": "maximum context length", "code": "context_length_exceeded"}})
    )
    home.outside.answers(refuses(400, {"error": {"message": "context", "code": "context_length_exceeded"}}))
    await ask(home)


@pytest.mark.parametrize(
    ("way", "state", "status", "failed"),
    [
        (ask, "completed", 200, False),
        (cut_short, "truncated", 200, True),
        (banned, "blocked", 200, False),
        (leaves, "client_closed", 200, False),
        (refused, "refused", 404, False),
        (all_down, "failed", 502, True),
        (too_long, "failed", 400, False),
    ],
)
async def test_the_span_ends_in_every_way_out_and_blames_the_server_only_for_its_own_faults(
    tmp_path: Path,
    traces: Collector,
    way: Callable[[House], Awaitable[None]],
    state: str,
    status: int,
    failed: bool,
) -> None:
    async with traced(tmp_path, traces, guards={**LOOKING_ON, "terms": {"terms": ["zorglub"]}}) as home:
        await way(home)
    root = traces.only(CHAT)
    assert (root.attributes["passerelle.state"], root.failed) == (state, failed)
    assert root.attributes["http.response.status_code"] == status
    assert ("error.type" in root.attributes) is failed
    calls = traces.named("chat falcon", "chat gpt-3.5-turbo")
    assert all(above(call, root) and call.ended <= root.ended for call in calls)
    assert any(call.failed for call in calls) is failed


async def test_no_text_no_key_and_no_user_is_exported(tmp_path: Path, traces: Collector) -> None:
    async with traced(tmp_path, traces, guards={**LOOKING_ON, "terms": {"terms": ["zorglub"]}}) as home:
        token = home.token("alice-martin")
        for way in (ask, cut_short, refused, all_down):
            await way(home)
        client = home.client_with(token)
        home.local.answers(says(FRENCH))
        await client.chat.completions.create(model=MODEL, messages=QUESTION)
        with pytest.raises(openai.BadRequestError):
            await client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "zorglub"}])
        with pytest.raises(openai.AuthenticationError):
            await home.client_with("sk-wrong-key").models.list()
        async with aiohttp.ClientSession() as session:
            await session.get(
                f"{home.url}/nulle/part/48151623?question=secret-48151623", headers={"cookie": "48151623"}
            )
    assert len(traces.named(CHAT)) == 6
    assert traces.received.count(b"passerelle.request_id") == 8
    hidden = ("48151623", "Voici une", "zorglub", "modèle", token, token[-40:], "wrong-key", LOCAL_KEY, OUTSIDE_KEY)
    assert [text for text in (*hidden, "alice", "127.0.0.1") if text.encode() in traces.received] == []


async def test_an_unforeseen_error_is_in_its_span_and_on_lines_that_name_it(traces: Collector) -> None:
    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        logging.getLogger("some.library").warning("before it breaks")
        raise ZeroDivisionError("48151623")

    tracer = Tracer(Tracing.model_validate({"endpoint": traces.url, "ratio": 1}))
    async with tracer, serve(tracer.around(Telemetry(broken, Metrics())), lifespan="off") as url:
        with capture_logs(processors=[merge_contextvars]) as lines:
            async with aiohttp.ClientSession() as session:
                await session.get(f"{url}/v1/x")
    span = traces.only("GET")
    assert (span.failed, span.attributes["error.type"]) == (True, "ZeroDivisionError")
    assert b"48151623" not in traces.received
    (line,) = (line for line in lines if line["event"] == "request")
    assert (line["trace_id"], line["span_id"]) == (span.trace, span.id)


async def test_the_web_framework_sends_nothing_of_its_own(
    tmp_path: Path, traces: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FASTAPI_OTEL_AUTO_CONFIGURE", "true")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", traces.url)
    async with house(tmp_path) as home:
        await ask(home)
        await refused(home)
    assert traces.requests == 0


def test_without_a_collector_nothing_that_makes_or_sends_spans_is_imported(tmp_path: Path) -> None:
    script = """
import asyncio, sys
from pathlib import Path
from tests.house import MODEL, house

async def main():
    async with house(Path(sys.argv[1])) as home:
        await home.client().chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "Bonjour"}])
        assert "traceparent" not in home.local.asked[0].headers

asyncio.run(main())
parts = ["opentelemetry.sdk.trace", "opentelemetry.exporter", "opentelemetry.proto", "google.protobuf", "requests"]
parts = (*parts, "gateway.tracing", "gateway.recorded")
print([name for name in sys.modules if name.startswith(parts)])
"""
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    "held", ["collector:4318", "ftp://collector", "http://me:48151623@collector", "http://c/?k=48151623"]
)
def test_an_endpoint_that_is_no_collector_s_is_refused_in_one_sentence(tmp_path: Path, held: str) -> None:
    file = tmp_path / "passerelle.toml"
    file.write_text(f'[tracing]\nendpoint = "{held}"\n')
    with pytest.raises(BadSettings, match=r"^tracing\.endpoint holds .*, but URL .*\.$") as refused:
        load(file)
    assert "48151623" not in str(refused.value)


@pytest.mark.parametrize("base", ["http://c:4318", "http://c:4318/", "http://c:4318/v1/traces"])
def test_spans_are_posted_where_the_protocol_says(base: str) -> None:
    assert Settings.model_validate({"tracing": {"endpoint": base}}).tracing.address() == "http://c:4318/v1/traces"


async def test_the_names_are_those_of_the_conventions(tmp_path: Path, traces: Collector) -> None:
    known = {
        value
        for module in (gen_ai_attributes, http_attributes, url_attributes, error_attributes)
        for name, value in vars(module).items()
        if name.isupper()
    }
    async with traced(tmp_path, traces) as home:
        await ask(home)
        await all_down(home)
    used = {name for span in traces.spans for name in span.attributes}
    assert {name for name in used if not name.startswith("passerelle.")} <= known
    operations = {value.value for value in gen_ai_attributes.GenAiOperationNameValues}
    assert set(OPERATIONS.values()) <= operations


def test_vllm_is_told_where_its_spans_go(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["plan", "--cpu", "--json", "--model", "gemma-3-270m", "--vllm-python", "/bin/sh"]
    assert main([*words, "--otlp-traces-endpoint", "http://c:4318/v1/traces"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["argv"][-2:] == ["--otlp-traces-endpoint", "http://c:4318/v1/traces"]
    assert plan["environment"]["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"] == "http/protobuf"
    assert main(words) == 0
    assert "otlp" not in capsys.readouterr().out.lower().replace('"otlp_traces_endpoint": null', "")
