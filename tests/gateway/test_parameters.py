"""Every field that OpenAI documents is passed through or refused by its name; none is lost in silence."""

from collections.abc import Callable
from typing import Any

import orjson
import pytest
from openai.types.chat.completion_create_params import CompletionCreateParamsBase as ChatParams
from openai.types.completion_create_params import CompletionCreateParamsBase as CompletionParams
from openai.types.embedding_create_params import EmbeddingCreateParams

from gateway import ask as asking
from gateway import completions, embeddings, parameters, protocol
from gateway.errors import InvalidRequest
from tests.gateway.requests import USER, ask, request

CHAT: dict[str, Any] = {"model": "m", "messages": [USER]}
COMPLETION: dict[str, Any] = {"model": "m", "prompt": "Il était une fois"}
EMBEDDING: dict[str, Any] = {"model": "m", "input": "Un avis"}
# A value of each field of "Create chat completion" that is not the default and that is passed through.
PASSED: dict[str, Any] = {
    "frequency_penalty": 0.5,
    "logit_bias": {"50256": -100},
    "logprobs": True,
    "metadata": {"dossier": "12"},
    "modalities": ["text"],
    "n": 2,
    "parallel_tool_calls": False,
    "prediction": {"type": "content", "content": "x"},
    "presence_penalty": -0.5,
    "prompt_cache_key": "k",
    "prompt_cache_options": {"mode": "explicit"},
    "prompt_cache_retention": "24h",
    "reasoning_effort": "low",
    "response_format": {"type": "json_object"},
    "safety_identifier": "s",
    "seed": 0,
    "service_tier": "auto",
    "stop": ["\n"],
    "store": False,
    "temperature": 0,
    "tool_choice": "auto",
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}],
    "top_logprobs": 3,
    "top_p": 0.1,
    "user": "u",
    "verbosity": "low",
}
ACTED_ON = {"model", "messages", "stream", "stream_options", "max_tokens", "max_completion_tokens"}


@pytest.mark.parametrize(
    ("documented", "passed", "refused"),
    [
        (ChatParams, parameters.CHAT, parameters.REFUSED_OF_CHAT),
        (CompletionParams, parameters.COMPLETIONS, parameters.REFUSED_OF_COMPLETIONS),
        (EmbeddingCreateParams, parameters.EMBEDDINGS, parameters.REFUSED_OF_EMBEDDINGS),
    ],
    ids=["chat", "completions", "embeddings"],
)
def test_what_becomes_of_each_documented_field_is_written_down(
    documented: type, passed: frozenset[str], refused: dict[str, parameters.Refusal]
) -> None:
    fields = set(documented.__annotations__) | ({"stream"} if "stream_options" in passed else set())
    assert fields - passed - set(refused) == set()
    assert passed <= fields


def test_every_field_of_chat_that_is_passed_through_is_tried_here() -> None:
    assert set(PASSED) | ACTED_ON == parameters.CHAT


@pytest.mark.parametrize("name", PASSED)
def test_a_field_that_is_passed_through_reaches_the_model_server_as_it_came(name: str) -> None:
    sent = orjson.loads(asking.body(request(**{name: PASSED[name]}), ask(), asking.Lead()))
    assert sent[name] == PASSED[name]


def test_labels_of_stored_answers_are_not_sent_to_openai_which_would_refuse_them() -> None:
    sent = orjson.loads(asking.body(request(metadata={"dossier": "12"}, user="u"), ask(kind="openai"), asking.Lead()))
    assert "metadata" not in sent
    assert sent["user"] == "u"


@pytest.mark.parametrize(
    ("parse", "good", "field", "value"),
    [
        (protocol.parse, CHAT, "audio", {"voice": "alloy"}),
        (protocol.parse, CHAT, "modalities", ["text", "audio"]),
        (protocol.parse, CHAT, "functions", []),
        (protocol.parse, CHAT, "function_call", "auto"),
        (protocol.parse, CHAT, "moderation", {}),
        (protocol.parse, CHAT, "store", True),
        (protocol.parse, CHAT, "web_search_options", {}),
        (protocol.parse, CHAT, "priority", 0),
        (protocol.parse, CHAT, "documents", [{"text": "zorglub"}]),
        (protocol.parse, CHAT, "chat_template", "{{ messages }}"),
        (protocol.parse, CHAT, "chat_template_kwargs", {"system": "zorglub"}),
        (protocol.parse, CHAT, "chat_template_kwargs", "zorglub"),
        (protocol.parse, CHAT, "kv_transfer_params", {}),
        (completions.parse, COMPLETION, "prompt_embeds", "AAAA"),
        (completions.parse, COMPLETION, "best_of", 2),
        (completions.parse, COMPLETION, "echo", True),
        (completions.parse, COMPLETION, "priority", -1),
        (embeddings.parse, EMBEDDING, "priority", 1),
    ],
)
def test_a_field_that_is_not_served_is_refused_by_its_name(
    parse: Callable[..., Any], good: dict[str, Any], field: str, value: Any
) -> None:
    with pytest.raises(InvalidRequest, match=field) as caught:
        parse(orjson.dumps({**good, field: value}), max_choices=8)
    assert (caught.value.status, caught.value.param) == (400, field)


@pytest.mark.parametrize(
    ("parse", "fields"),
    [
        (protocol.parse, {**CHAT, "chat_template_kwargs": {"enable_thinking": False}}),
        (protocol.parse, {**CHAT, "audio": None, "store": None, "functions": None, "modalities": None}),
        (completions.parse, {**COMPLETION, "echo": False, "best_of": 1}),
    ],
)
def test_a_field_set_to_what_is_served_anyway_is_no_error(parse: Callable[..., Any], fields: dict[str, Any]) -> None:
    assert parse(orjson.dumps(fields), max_choices=8).raw == fields
