"""Real vLLM on the CPU, a Falcon made here, our template: what the gateway builds on."""

import json
from typing import Any

import pytest

from serving.server import ModelServer
from tests.serving.calls import call

# Starting vLLM takes about a minute, more on a busy machine.
pytestmark = [pytest.mark.vllm, pytest.mark.timeout(400)]

QUESTION = {"role": "user", "content": "Comment déposer un avis ?"}


def chat(server: ModelServer, **fields: Any) -> tuple[int, str]:
    body = {"model": server.served_name, "temperature": 0, "max_tokens": 8, **fields}
    return call(server.plan.port, "/v1/chat/completions", body)


def answer(server: ModelServer, **fields: Any) -> dict[str, Any]:
    status, text = chat(server, **fields)
    assert status == 200, text
    return dict(json.loads(text))


def events(stream: str) -> list[str]:
    return [line.removeprefix("data: ") for line in stream.splitlines() if line]


def test_the_tiny_falcon_answers_a_plain_chat(tiny_falcon_server: ModelServer) -> None:
    given = answer(tiny_falcon_server, messages=[QUESTION], ignore_eos=True)
    assert given["choices"][0]["message"]["role"] == "assistant"
    assert given["usage"]["completion_tokens"] == 8


def test_the_tiny_falcon_streams_the_same_answer(tiny_falcon_server: ModelServer) -> None:
    plain = answer(tiny_falcon_server, messages=[QUESTION])["choices"][0]["message"]["content"]
    status, stream = chat(tiny_falcon_server, messages=[QUESTION], stream=True)
    lines = events(stream)
    deltas = [json.loads(line)["choices"][0]["delta"].get("content", "") for line in lines[:-1]]
    assert status == 200
    assert lines[-1] == "[DONE]"
    assert "".join(deltas) == plain


@pytest.mark.parametrize("opening", ["Bonjour,", "Bonjour,\nvoici la suite :", "Réponse : "])
def test_a_final_assistant_message_is_continued_not_closed(tiny_falcon_server: ModelServer, opening: str) -> None:
    messages = [
        {"role": "system", "content": "Réponds en français."},
        QUESTION,
        {"role": "assistant", "content": opening},
    ]
    fields = {"add_generation_prompt": False, "continue_final_message": True, "return_token_ids": True}
    tokens = answer(tiny_falcon_server, messages=messages, **fields)["prompt_token_ids"]
    body = {"model": tiny_falcon_server.served_name, "tokens": tokens}
    prompt = json.loads(call(tiny_falcon_server.plan.port, "/detokenize", body)[1])["prompt"]
    assert prompt == f"User: Réponds en français.\n Comment déposer un avis ?\nAssistant: {opening.strip()}"


def test_an_unknown_role_is_the_callers_mistake(tiny_falcon_server: ModelServer) -> None:
    status, text = chat(tiny_falcon_server, messages=[{"role": "tool", "content": "42", "tool_call_id": "1"}])
    assert status == 400
    assert "role tool is not known" in text
