from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import InvalidRequest
from gateway.protocol import parse, too_large
from tests.gateway.requests import USER, request

GOOD: dict[str, Any] = {"model": "m", "messages": [USER]}
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "low"}}


def refused(fields: dict[str, Any]) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        request(**fields)
    return caught.value


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": None}, "model"),
        ({"model": ""}, "model"),
        ({"model": "m" * 257}, "model"),
        ({"model": 7}, "model"),
        ({"messages": []}, "messages"),
        ({"messages": "Bonjour"}, "messages"),
        ({"messages": [USER, {"role": "robot", "content": "x"}]}, "messages[1].role"),
        ({"messages": [{"content": "x"}]}, "messages[0]"),
        ({"messages": [{"role": "user", "content": 7}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"text": "x"}]}]}, "messages[0].content[0]"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content[0]"),
        ({"messages": [USER, {"role": "user", "content": [{**IMAGE, "type": "text"}]}]}, "messages[1].content[0]"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
            "messages[0].content[0].image_url",
        ),
        ({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "messages[0].content[0].type"),
        ({"messages": [{"role": "user", "content": [{"type": "video_url"}]}]}, "messages[0].content[0].type"),
        ({"stream": "true"}, "stream"),
        ({"stream": 1}, "stream"),
        ({"n": 0}, "n"),
        ({"n": 9}, "n"),
        ({"n": 1.5}, "n"),
        ({"n": True}, "n"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_completion_tokens": "5"}, "max_completion_tokens"),
        ({"max_tokens": 5, "max_completion_tokens": 6}, "max_tokens"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"stream_options": {"include_usage": True}, "stream": False}, "stream_options"),
        ({"stream": True, "stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
        ({"stop": 7}, "stop"),
    ],
)
def test_a_wrong_field_is_refused_by_its_name(fields: dict[str, Any], param: str) -> None:
    error = refused(fields)
    assert (error.status, error.param) == (400, param)
    assert str(error).endswith(".")


@pytest.mark.parametrize("missing", ["model", "messages"])
def test_a_missing_field_is_named_in_the_message(missing: str) -> None:
    body = orjson.dumps({key: value for key, value in GOOD.items() if key != missing})
    with pytest.raises(InvalidRequest, match=missing):
        parse(body, max_choices=8)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'"model"',
        b'{"model": "\xff", "messages": []}',
        b'{"model": "\\ud800", "messages": []}',
        b'{"model": NaN}',
        b'{"x": ' + b"[" * 2000 + b"]" * 2000 + b"}",
    ],
    ids=["empty", "cut", "null", "list", "string", "not UTF-8", "half a pair", "NaN", "too deep"],
)
def test_a_body_that_is_no_json_object_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest, match=r"JSON"):
        parse(body, max_choices=8)


@pytest.mark.parametrize("levels", [255, 400, 1000])
def test_a_body_too_deep_to_be_passed_on_is_refused(levels: int) -> None:
    deep = orjson.dumps(GOOD)[:-1] + b', "tools": ' + b"[" * levels + b"]" * levels + b"}"
    with pytest.raises(InvalidRequest, match="levels deep"):
        parse(deep, max_choices=8)


def test_many_brackets_are_not_deep() -> None:
    wide = orjson.dumps({**GOOD, "logit_bias": {}, "tools": [{"type": "function"}] * 400})
    assert len(parse(wide, max_choices=8).raw["tools"]) == 400


@given(st.binary(max_size=60) | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(repr).map(str.encode))
def test_no_body_breaks_the_parser(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        parse(body, max_choices=8)


@pytest.mark.parametrize(
    "fields",
    [
        {"stream": None, "n": None, "max_tokens": None, "stop": None, "stream_options": None},
        {"n": 8, "max_tokens": 5, "max_completion_tokens": 5, "stop": ["a", "b"]},
        {"stream": True, "stream_options": {"include_usage": True}},
        {"messages": [USER, {"role": "assistant", "tool_calls": [{"id": "c"}]}, {"role": "tool", "content": "x"}]},
        {"messages": [{"role": "developer", "content": "x"}, {"role": "user", "content": [IMAGE]}]},
        {"temperature": "hot", "tools": 3, "unheard_of": {"of": [1]}},
    ],
)
def test_what_the_gateway_does_not_act_on_passes_through_untouched(fields: dict[str, Any]) -> None:
    assert request(**fields).raw == {**GOOD, **fields}


def test_the_words_of_a_message_are_its_text_parts() -> None:
    parts = [{"type": "text", "text": "un"}, IMAGE, {"type": "text", "text": "deux"}]
    messages = [{"role": "user", "content": parts}, {"role": "assistant", "content": None}, USER]
    assert list(request(messages=messages).texts()) == ["un\ndeux", "", USER["content"]]


@pytest.mark.parametrize(("fields", "bound"), [({}, None), ({"max_tokens": 3}, 3), ({"max_completion_tokens": 4}, 4)])
def test_both_names_of_the_bound_mean_the_same(fields: dict[str, Any], bound: int | None) -> None:
    assert request(**fields).max_tokens == bound


def test_a_plain_request_is_not_streamed_and_asks_for_no_usage_chunk() -> None:
    assert (request().stream, request().include_usage, request().model) == (False, False, "m")
    assert request(stream=True, stream_options={"include_usage": True}).include_usage


def test_a_body_that_is_too_large_is_413_and_says_the_limit() -> None:
    error = too_large(1000)
    assert (error.status, error.code) == (413, "request_too_large")
    assert "1000" in str(error)
