import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import events
from gateway.events import Part, Run
from gateway.failure import Failure

CHUNK = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}


def event(delta: dict[str, Any], *, usage: dict[str, Any] | None = None, **of_choice: Any) -> bytes:
    """As vLLM writes a token."""
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": None, **of_choice}
    return json.dumps({**CHUNK, "choices": [choice], **({"usage": usage} if usage else {})}).encode()


def token(text: str, **more: Any) -> bytes:
    return event({"content": text}, **more)


def usage(prompt: int, completion: int) -> dict[str, int]:
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def read(*written: bytes) -> list[Part]:
    return list(events.parts(written))


def test_tokens_that_came_on_end_are_one_run() -> None:
    first = event({"role": "assistant", "content": ""})
    assert read(first, token("Bon"), token("jour")) == [Run(0, ["", "Bon", "jour"], [None, None, None])]


def test_each_token_keeps_the_server_s_count() -> None:
    (run,) = read(token("a", usage=usage(7, 1)), token("b", usage=usage(7, 2)))
    assert isinstance(run, Run)
    assert run.counts == [1, 2]
    assert run.usage is not None
    assert run.usage.by(1) == usage(7, 1)


@pytest.mark.parametrize(
    "written",
    [
        pytest.param(event({}, finish_reason="stop"), id="a finish"),
        pytest.param(event({"content": "!"}, finish_reason="stop"), id="the last token with the finish"),
        pytest.param(event({"content": "a"}, logprobs={"content": []}), id="log probabilities"),
        pytest.param(event({"content": None}), id="no text"),
        pytest.param(event({"role": "assistant"}), id="the role alone"),
        pytest.param(event({"content": "a", "tool_calls": [{"index": 0}]}), id="a call of a tool"),
        pytest.param(event({"content": "a", "reasoning": "hm"}), id="reasoning"),
        pytest.param(event({"content": "a", "audio": {}}), id="a field nobody knows"),
        pytest.param(event({"content": "a"}, index=None), id="a choice without a number"),
        pytest.param(event({"content": "a"}, index=-1), id="a number below nothing"),
        pytest.param(event({"content": "a"}, usage={**usage(1, 1), "cost": 2}), id="a count of another kind"),
        pytest.param(event({"content": "a"}, usage=usage(-1, 1)), id="a count below nothing"),
        pytest.param(json.dumps({**CHUNK, "choices": [], "usage": usage(1, 2)}).encode(), id="the usage alone"),
        pytest.param(
            json.dumps({**CHUNK, "error": None, "choices": [{"index": 0, "text": "a"}]}).encode(), id="a text"
        ),
    ],
)
def test_an_event_that_says_more_stays_as_it_is_and_in_its_place(written: bytes) -> None:
    before, chunk, after = read(token("a"), written, token("b"))
    assert (before, after) == (Run(0, ["a"], [None]), Run(0, ["b"], [None]))
    assert chunk == json.loads(written)


def test_choices_take_turns() -> None:
    runs = read(token("a"), token("b", index=1), token("c", index=1), token("d"))
    assert runs == [Run(0, ["a"], [None]), Run(1, ["b", "c"], [None, None]), Run(0, ["d"], [None])]


@pytest.mark.parametrize(
    "written",
    [
        b"nonsense",
        b"[]",
        b'{"choices": 1}',
        b'{"choices": [{"index": 1000000000000000000000000, "delta": {"content": "a"}}]}',
        b'{"choices": [{"index": 0, "delta": {"content": "a"}}], "x": ' + b"[" * 5000 + b"]" * 5000 + b"}",
        b'{"a":' * 5000 + b"1" + b"}" * 5000,
        b'{"error": {"message": "out of memory"}}',
        b'{"error": "x", "choices": [{"index": 0, "delta": {"content": "a"}}]}',
        b'{"choices": [{"index": 0, "delta": {"content": "\\ud800"}}]}',
        b'{"choices": [{"index": 0, "delta": {"content": 7}}]}'.replace(
            b"7", b'"a"}}], "choices": [7], "x": [{"y": {"z": 1'
        ),
    ],
)
def test_what_stands_before_a_bad_event_is_given_first(written: bytes) -> None:
    parts = events.parts([token("a"), token("b"), written, token("c")])
    assert next(parts) == Run(0, ["a", "b"], [None, None])
    with pytest.raises(Failure):
        next(parts)


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)


@given(st.lists(st.tuples(TEXTS, st.integers(0, 2), st.sampled_from([None, "stop"])), max_size=12))
def test_nothing_is_lost_added_or_moved(said: list[tuple[str, int, str | None]]) -> None:
    parts = read(*(token(text, index=index, finish_reason=finish) for text, index, finish in said))
    found: list[tuple[str, int, str | None]] = []
    for part in parts:
        if isinstance(part, Run):
            found += [(text, part.index, None) for text in part.texts]
        else:
            (choice,) = part["choices"]
            found.append((choice["delta"]["content"], choice["index"], choice["finish_reason"]))
    assert found == said


def test_content_is_more_than_the_role() -> None:
    (role,) = read(event({"role": "assistant", "content": ""}))
    (text,) = read(token("a"))
    assert (events.has_content(role), events.has_content(text)) == (False, True)
