"""One trace through the gateway and real vLLM on the CPU: vLLM's span is a child of the try's."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from serving.plan import Options
from serving.prepare import prepare
from serving.server import ModelServer
from tests.collector import Collector, collector
from tests.gateway.test_vllm import QUESTION, served_by
from tests.house import house
from tests.vllm_server import free_port

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(400)]


@pytest.fixture
async def traces() -> AsyncIterator[Collector]:
    async with collector() as made:
        yield made


async def ask(folder: Path, server: ModelServer, traces: Collector, **tracing: Any) -> None:
    """One streamed question through a gateway that is stopped afterwards."""
    settings = served_by(server, language="annotate")
    async with house(folder, tracing={"endpoint": traces.url, **tracing}, **settings) as home:
        stream = await home.client().chat.completions.create(
            model=server.served_name, messages=QUESTION, max_tokens=8, stream=True, extra_body={"ignore_eos": True}
        )
        async for _ in stream:
            pass


async def test_the_span_of_vllm_is_a_child_of_the_gateway_s(
    tmp_path: Path, tiny_falcon: Path, vllm_python: Path, traces: Collector
) -> None:
    endpoint = f"{traces.url}/v1/traces"
    options = Options(
        model=str(tiny_falcon), cpu=True, port=free_port(), vllm_python=vllm_python, otlp_traces_endpoint=endpoint
    )
    plan = prepare(options, print)
    assert plan.argv[-2:] == ("--otlp-traces-endpoint", endpoint)
    server = ModelServer(plan, log=tmp_path / "vllm.log", progress=print)
    await asyncio.to_thread(server.start)
    try:
        await ask(tmp_path, server, traces, ratio=0)  # not recorded here, so not there either
        await ask(tmp_path, server, traces, ratio=1)
        call = await traces.has(f"chat {server.served_name}")
        theirs = await traces.has("llm_request", call.id)
    finally:
        await asyncio.to_thread(server.stop)
    assert (theirs.service, theirs.trace) == ("vllm", call.trace)
    assert [span.parent for span in traces.named("llm_request") if span.parent] == [call.id]
    assert theirs.attributes["gen_ai.usage.completion_tokens"] == call.attributes["gen_ai.usage.output_tokens"] == 8
    assert theirs.attributes["gen_ai.usage.prompt_tokens"] == call.attributes["gen_ai.usage.input_tokens"]
    questions = [b"plateforme", "déposer un avis".encode()]
    assert [text for text in questions if text in traces.received] == []
