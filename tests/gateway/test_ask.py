from typing import Any

import orjson
import pytest

from gateway.ask import Wanted, body, lead
from gateway.protocol import ChatRequest
from gateway.routing import Ask
from gateway.steering import FIRM_INSTRUCTION, INSTRUCTION, OPENING
from tests.gateway.requests import USER, ask, request

OPENED = {"role": "assistant", "content": OPENING}
SYSTEM = {"role": "system", "content": "Sois bref."}


def sent(asked: ChatRequest, to: Ask) -> dict[str, Any]:
    made: dict[str, Any] = orjson.loads(body(asked, to, lead(asked, to)))
    return made


def test_a_target_is_asked_by_its_own_model_name_streamed_and_with_usage() -> None:
    made = sent(request(), ask())
    assert made == {
        "model": "up/m",
        "messages": [USER],
        "stream": True,
        "stream_options": {"include_usage": True, "continuous_usage_stats": True},
    }


def test_fields_the_gateway_does_not_know_pass_through() -> None:
    fields = {"temperature": 0.2, "tools": [{"type": "function"}], "seed": 7, "n": 2, "unheard_of": {"a": [None]}}
    assert fields.items() <= sent(request(**fields), ask()).items()


@pytest.mark.parametrize(
    ("kind", "fields", "expected"),
    [
        ("vllm", {}, {}),
        ("vllm", {"max_tokens": 5}, {"max_tokens": 5}),
        ("vllm", {"max_completion_tokens": 5}, {"max_tokens": 5}),
        ("openai", {"max_tokens": 5}, {"max_completion_tokens": 5}),
        ("openai", {"max_tokens": 5, "max_completion_tokens": 5}, {"max_completion_tokens": 5}),
    ],
)
@pytest.mark.parametrize("defaults", [{}, {"max_tokens": 99}])
def test_the_bound_goes_under_the_one_name_the_target_knows(
    kind: str, fields: dict[str, int], expected: dict[str, int], defaults: dict[str, int]
) -> None:
    made = sent(request(**fields), ask(kind=kind, defaults=defaults))
    bounds = {key: value for key, value in made.items() if key in ("max_tokens", "max_completion_tokens")}
    assert bounds == (expected or defaults)


def test_defaults_of_the_target_fill_what_the_caller_left_open() -> None:
    made = sent(request(top_p=0.5), ask(defaults={"top_p": 0.9, "repetition_penalty": 1.1}))
    assert (made["top_p"], made["repetition_penalty"]) == (0.5, 1.1)


@pytest.mark.parametrize(
    ("own", "asked", "expected"),
    [
        (None, None, None),
        (None, "a", ["a"]),
        (None, ["a", "b"], ["a", "b"]),
        ("\n\n", None, ["\n\n"]),
        (["\n\n"], "a", ["a", "\n\n"]),
        (["\n\n", "Q"], ["a"], ["a", "\n\n", "Q"]),
    ],
)
def test_the_stop_strings_of_the_template_are_always_there(
    own: str | list[str] | None, asked: str | list[str] | None, expected: list[str] | None
) -> None:
    made = sent(request(stop=asked), ask(defaults={} if own is None else {"stop": own}))
    assert made.get("stop") == expected


@pytest.mark.parametrize(
    ("messages", "firm"),
    [
        ([USER], [{"role": "system", "content": FIRM_INSTRUCTION}, USER]),
        ([SYSTEM, USER], [{"role": "system", "content": f"Sois bref.\n\n{FIRM_INSTRUCTION}"}, USER]),
        (
            [{"role": "system", "content": [{"type": "text", "text": "x"}]}, USER],
            [
                {"role": "system", "content": FIRM_INSTRUCTION},
                {"role": "system", "content": [{"type": "text", "text": "x"}]},
                USER,
            ],
        ),
    ],
)
def test_a_firm_ask_of_vllm_has_the_instruction_and_a_french_opening(
    messages: list[dict[str, Any]], firm: list[dict[str, Any]]
) -> None:
    made = sent(request(messages=messages), ask(firm=True))
    assert made["messages"] == [*firm, OPENED]
    assert (made["add_generation_prompt"], made["continue_final_message"]) == (False, True)


@pytest.mark.parametrize(
    ("target", "fields"),
    [
        ({"kind": "openai"}, {}),
        ({}, {"tools": [{"type": "function"}]}),
        ({}, {"messages": [USER, {"role": "assistant", "content": "Voici"}]}),
    ],
    ids=["OpenAI cannot go on from a turn", "a tool call has no opening", "the caller began the answer"],
)
def test_a_firm_ask_has_no_opening_where_it_would_do_harm(target: dict[str, Any], fields: dict[str, Any]) -> None:
    asked, to = request(**fields), ask(firm=True, **target)
    assert not lead(asked, to).begun
    made = sent(asked, to)
    assert made["messages"][0]["content"] == FIRM_INSTRUCTION
    assert OPENED not in made["messages"]
    assert "continue_final_message" not in made


@pytest.mark.parametrize(("kind", "role"), [("vllm", "system"), ("openai", "developer")])
@pytest.mark.parametrize("firm", [True, False])
def test_vllm_is_not_told_of_developers(kind: str, role: str, firm: bool) -> None:
    asked = request(messages=[{"role": "developer", "content": "x"}, USER])
    assert sent(asked, ask(kind=kind, firm=firm))["messages"][0]["role"] == role


def test_making_a_body_leaves_the_request_as_it_was() -> None:
    asked = request(messages=[{"role": "developer", "content": "x"}, USER], stop="a")
    before = orjson.dumps(asked.raw)
    for firm in (True, False):
        to = ask(firm=firm, defaults={"stop": ["b"]})
        body(asked, to, lead(asked, to))
    assert orjson.dumps(asked.raw) == before


def test_steering_from_the_start_is_what_the_target_says_and_only_where_french_is_due() -> None:
    asked = request(logit_bias={"7": 2})
    to = ask(steering={"instruction": True, "opening": True})
    made = orjson.loads(body(asked, to, lead(asked, to, Wanted(bias={"5": -8.0, "7": -8.0}))))
    assert made["messages"] == [{"role": "system", "content": INSTRUCTION}, USER, OPENED]
    assert made["logit_bias"] == {"5": -8.0, "7": 2}  # the caller's own word is the last
    assert lead(asked, to) == lead(asked, ask(steering={"instruction": False}))
    assert lead(asked, to, Wanted(asked=frozenset({"en"}))).begun == ""
