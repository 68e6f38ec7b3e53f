from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gateway.collect import completion
from gateway.events import Chunk

ENVELOPE = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 7, "model": "m"}


def chunk(delta: dict[str, Any], *, index: int = 0, finish: str | None = None, **more: Any) -> Chunk:
    return {**ENVELOPE, "choices": [{"index": index, "delta": delta, "finish_reason": finish, **more}]}


def test_the_collected_form_is_openai_s_object() -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    chunks = [chunk({"role": "assistant", "content": "Bon"}), chunk({"content": "jour"}), chunk({}, finish="stop")]
    assert completion(chunks, usage) == {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 7,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Bonjour", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": usage,
    }


@given(st.lists(st.tuples(st.integers(0, 3), st.text(max_size=5)), min_size=1, max_size=20))
def test_each_choice_is_the_join_of_its_own_pieces(pieces: list[tuple[int, str]]) -> None:
    whole = completion([chunk({"content": text}, index=index) for index, text in pieces], None)
    indexes = sorted({index for index, _ in pieces})
    assert [choice["index"] for choice in whole["choices"]] == indexes
    for choice in whole["choices"]:
        assert choice["message"]["content"] == "".join(text for index, text in pieces if index == choice["index"])


def test_log_probabilities_of_both_kinds_are_joined_in_order() -> None:
    chunks = [
        chunk({"content": "a"}, logprobs={"content": [1]}),
        chunk({"content": "b"}, logprobs={"content": [2, 3], "refusal": [4]}),
        chunk({}, finish="stop", logprobs=None),
    ]
    assert completion(chunks, None)["choices"][0]["logprobs"] == {"content": [1, 2, 3], "refusal": [4]}


def test_tool_calls_that_arrive_interleaved_are_told_apart() -> None:
    def call(index: int, arguments: str, **more: Any) -> Chunk:
        return chunk({"tool_calls": [{"index": index, "function": {"arguments": arguments}, **more}]})

    chunks = [call(1, "[", id="b"), call(0, "{", id="a"), call(1, "]"), call(0, "}"), chunk({}, finish="tool_calls")]
    assert completion(chunks, None)["choices"][0]["message"]["tool_calls"] == [
        {"id": "a", "function": {"arguments": "{}"}},
        {"id": "b", "function": {"arguments": "[]"}},
    ]


def test_a_field_that_is_unknown_here_is_kept() -> None:
    message = completion([chunk({"content": "a", "annotations": [1]})], None)["choices"][0]["message"]
    assert message["annotations"] == [1]
