"""The main job on real parts: the official SDK, the gateway, real vLLM on the CPU, a Falcon made for the test, our template.

The tiny Falcon has random weights, so what it says is noise: the language guard annotates here, and once enforces, when the
only French that may arrive is our own.
"""

from pathlib import Path
from typing import Any

import openai
import pytest

from gateway.guardrails.language import Detector, Verdict
from gateway.load import Figures, parse
from gateway.settings import Times
from gateway.upstream import Upstream
from gateway.wording import REFUSAL
from serving.server import ModelServer
from tests.house import House, house

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(400)]

QUESTION: list[Any] = [
    {"role": "system", "content": "Tu es l'assistant d'une plateforme d'avis."},
    {"role": "user", "content": "Comment déposer un avis ?"},
]


def served_by(server: ModelServer, *, language: str) -> dict[str, Any]:
    """Settings that publish the real model server under its own name."""
    target = {
        "kind": "vllm",
        "urls": [server.base_url],
        "model": server.served_name,
        "api_key_env": None,
        "context_length": server.context_length,
        "defaults": server.defaults,
    }
    return {
        "targets": {"local": target},
        "models": {server.served_name: {"targets": ["local"]}},
        "guards": {"language": {"mode": language}},
        "times": {"first_content": 60, "idle": 30},
    }


async def both(home: House, server: ModelServer, **fields: Any) -> tuple[str, str]:
    """One question asked greedily, streamed and plain: the two texts."""
    ask: dict[str, Any] = {
        "model": server.served_name,
        "messages": QUESTION,
        "temperature": 0,
        "max_tokens": 12,
        **fields,
    }
    client = home.client()
    plain = await client.chat.completions.create(**ask)
    stream = await client.chat.completions.create(**ask, stream=True, stream_options={"include_usage": True})
    text, usage = "", None
    async for chunk in stream:
        text += "".join(choice.delta.content or "" for choice in chunk.choices)
        usage = chunk.usage or usage
    assert plain.usage is not None
    assert usage is not None
    assert usage.prompt_tokens == plain.usage.prompt_tokens > 0
    return plain.choices[0].message.content or "", text


async def test_a_falcon_answers_through_the_gateway_streamed_and_plain(
    tmp_path: Path, tiny_falcon_server: ModelServer
) -> None:
    async with house(tmp_path, **served_by(tiny_falcon_server, language="annotate")) as home:
        plain, streamed = await both(home, tiny_falcon_server, extra_body={"ignore_eos": True})
    assert plain == streamed
    assert plain


async def test_with_the_guard_on_nothing_foreign_is_delivered_of_the_noise(
    tmp_path: Path, tiny_falcon_server: ModelServer
) -> None:
    async with house(tmp_path, **served_by(tiny_falcon_server, language="enforce")) as home:
        raw = await home.client().chat.completions.with_raw_response.create(
            model=tiny_falcon_server.served_name,
            messages=QUESTION,
            max_tokens=60,
            temperature=0,
            extra_body={"ignore_eos": True},
        )
        text = raw.parse().choices[0].message.content or ""
        rows = await home.ledger(raw.headers["x-request-id"])
    assert Detector().judge(text) is not Verdict.FOREIGN
    # A refusal comes only after vLLM was asked twice, the second time to go on from the French opening.
    kinds = [row["kind"] for row in rows]
    assert kinds == (["regeneration", "regeneration", "release"] if text == REFUSAL else [*kinds[:-1], "settle"])


async def test_a_refusal_of_vllm_keeps_its_words_and_our_shape(tmp_path: Path, tiny_falcon_server: ModelServer) -> None:
    async with house(tmp_path, **served_by(tiny_falcon_server, language="annotate")) as home:
        long = [{"role": "user", "content": "mot " * 4000}]
        with pytest.raises(openai.BadRequestError) as refused:
            await home.client().chat.completions.create(model=tiny_falcon_server.served_name, messages=long)  # type: ignore[arg-type]
    assert refused.value.code == "context_length_exceeded"


async def test_the_metrics_that_balance_replicas_are_there_by_their_names(tiny_falcon_server: ModelServer) -> None:
    async with Upstream(Times()) as client:
        shown = await client.metrics(tiny_falcon_server.base_url, within=5)
    assert shown is not None
    figures = parse(shown)
    assert figures.generated is not None
    assert figures == Figures(0, 0, 0, figures.generated)
