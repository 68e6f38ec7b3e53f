from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import collect
from gateway.answer import Answer
from gateway.events import Chunk, Part, Run, Usage
from gateway.failure import Failure
from gateway.guard_settings import Guards as GuardSettings
from gateway.guardrails.gate import Drift
from gateway.guardrails.guards import Guards
from tests.gateway.cutting import cut, cuts_of

ENVELOPE = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 7, "model": "m"}
OFF = {guard: {"mode": "off"} for guard in ("language", "moderation", "leaks", "loops")}
OPEN = Guards(GuardSettings.model_validate(OFF))
GUARDED = Guards(GuardSettings())
FR = "Votre demande a bien été enregistrée par notre équipe. "
EN = "Your request has been recorded by the members of our team. "


def answer(guards: Guards = OPEN, *, strip: bool = False) -> Answer:
    return Answer(dict(ENVELOPE), guards.of().gate, strip=strip)


def part(delta: dict[str, Any] | None, *, index: int = 0, finish: str | None = None, **more: Any) -> Chunk:
    return {"choices": [{"index": index, "delta": delta, "finish_reason": finish, **more}]}


def text(content: str, **more: Any) -> Chunk:
    return part({"content": content}, **more)


def took(made: Answer, *chunks: Chunk) -> list[Chunk]:
    return [released for chunk in chunks for released in made.take(chunk)]


def collected(made: Answer, *chunks: Chunk) -> dict[str, Any]:
    return collect.completion(took(made, *chunks), made.usage)


@given(st.lists(st.text(max_size=30), max_size=6))
def test_without_guards_every_word_leaves_at_once_in_our_envelope(texts: list[str]) -> None:
    made = answer()
    for content in texts:
        released = took(made, text(content))
        assert [chunk["choices"][0]["delta"]["content"] for chunk in released] == [content] * bool(content)
        assert all({key: chunk[key] for key in ENVELOPE} == ENVELOPE for chunk in released)


@given(cut(FR * 3))
def test_a_guarded_answer_is_the_same_however_it_arrives(pieces: list[str]) -> None:
    whole = collected(answer(GUARDED), *map(text, pieces), part({}, finish="stop"))
    assert whole["choices"][0]["message"]["content"] == FR * 3


TOKENS = st.lists(
    st.sampled_from(
        [*FR.replace(" ", "| ").split("|"), *EN.replace(" ", "| ").split("|"), ".", " »", "\n", "«", "", "? ", "…"]
    ),
    max_size=60,
)


def delivered(made: Answer, parts: list[Part]) -> tuple[str, str, int, int, Any]:
    """What leaves of an answer until it ends or is stopped, and what is counted by then."""
    released, stopped = "", ""
    try:
        for each in parts:
            for chunk in made.take(each):
                released += chunk["choices"][0]["delta"].get("content") or ""
    except Drift:
        stopped = "drift"
    return released, stopped, made.tokens, made.deltas, made.usage


@pytest.mark.parametrize("guards", [OPEN, GUARDED], ids=["open", "guarded"])
@given(TOKENS, st.data())
def test_tokens_that_come_groupsleave_as_they_would_one_by_one(
    guards: Guards, said: list[str], data: st.DataObject
) -> None:
    cuts = data.draw(cuts_of(len(said)))
    groups = [said[start:stop] for start, stop in pairwise([0, *cuts, len(said)])]
    runs: list[Part] = [Run(0, some, [None] * len(some)) for some in groups if some]
    one_by_one = delivered(answer(guards), [text(content) for content in said])
    together = delivered(answer(guards), runs)
    assert together[:3] == one_by_one[:3]
    # A sentence under way is looked at in places: with it those tokens are counted that were looked at together.
    assert one_by_one[3] <= together[3] if together[1] else together[3:] == one_by_one[3:]


@pytest.mark.parametrize("guards", [OPEN, GUARDED], ids=["open", "guarded"])
def test_no_guard_has_judged_a_text_that_never_came(guards: Guards) -> None:
    made = answer(guards)
    calls = part({"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f", "arguments": "{}"}}]})
    assert list(made.take(Run(0, [""], [None]))) == []
    assert took(made, calls, part({}, finish="tool_calls"))
    assert made.gates == []


def test_the_count_stops_at_the_sentence_that_stopped_the_answer() -> None:
    counted = Usage(prompt_tokens=9, completion_tokens=4, total_tokens=13)
    made = answer(GUARDED)
    run = Run(0, [FR, FR, EN, EN], [1, 2, 3, 4], counted)
    released, stopped, tokens, deltas, used = delivered(made, [run])
    assert (released, stopped) == (FR + FR[:-1], "drift")
    assert (tokens, deltas) == (1, 3)  # the space behind a sentence leaves with the next one
    assert used == {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}


def test_the_role_comes_once_with_the_first_text_and_not_before() -> None:
    made = answer(GUARDED)
    assert took(made, part({"role": "assistant", "content": ""}), text(FR[:30])) == []
    released = took(made, text(FR[30:] + FR), part({}, finish="stop"))
    roles = [chunk["choices"][0]["delta"].get("role") for chunk in released]
    assert roles == ["assistant"] + [None] * (len(released) - 1)


def test_an_empty_answer_has_a_role_and_a_finish() -> None:
    (only,) = took(answer(), part({"role": "assistant"}), part({}, finish="length"))
    assert only["choices"][0] == {
        "index": 0,
        "delta": {"role": "assistant", "content": ""},
        "logprobs": None,
        "finish_reason": "length",
    }


def test_a_drift_stops_the_answer_and_what_was_held_is_not_delivered() -> None:
    made = answer(GUARDED)
    assert took(made, text(FR + FR))
    with pytest.raises(Drift):
        took(made, text(EN))
    last = made.block("Fin.")
    assert [chunk["choices"][0]["delta"] for chunk in last] == [{"content": "Fin."}, {}]
    assert last[-1]["choices"][0]["finish_reason"] == "content_filter"
    assert made.complete()


def test_choices_are_guarded_and_ended_each_on_its_own() -> None:
    made = answer(GUARDED)
    took(made, text(FR, index=0), text(FR, index=1), part({}, index=0, finish="stop"))
    assert not made.complete()
    with pytest.raises(Drift):
        took(made, text(EN + EN, index=1))
    assert {chunk["choices"][0]["index"] for chunk in made.block("")} == {1}
    assert took(made, text(EN, index=0)) == []


def test_the_collected_form_keeps_every_choice_in_order() -> None:
    chunks = [text("b", index=1), text("a"), text("B", index=1), part({}, index=1, finish="length"), text("A")]
    whole = collected(answer(), *chunks, part({}, finish="stop"))
    assert [(choice["message"]["content"], choice["finish_reason"]) for choice in whole["choices"]] == [
        ("aA", "stop"),
        ("bB", "length"),
    ]


def test_tool_calls_pass_whole_and_follow_the_text_before_them() -> None:
    def call(**function: str) -> dict[str, Any]:
        return {"tool_calls": [{"index": 0, "function": function}]}

    first = {"tool_calls": [{"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": ""}}]}
    other = {"tool_calls": [{"index": 1, "id": "c2", "type": "function", "function": {"name": "g", "arguments": "{}"}}]}
    deltas: list[dict[str, Any]] = [
        {"content": "Je cherche."},
        first,
        call(arguments='{"a"'),
        call(arguments=": 1}"),
        other,
    ]
    made = answer(GUARDED)
    whole = collected(made, *map(part, deltas), part({}, finish="tool_calls"))
    message = whole["choices"][0]["message"]
    assert message["content"] == "Je cherche."
    assert message["tool_calls"] == [
        {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}},
        {"id": "c2", "type": "function", "function": {"name": "g", "arguments": "{}"}},
    ]
    assert whole["choices"][0]["finish_reason"] == "tool_calls"
    assert made.deltas == 5


def test_a_message_of_tool_calls_alone_has_no_content() -> None:
    delta = {"tool_calls": [{"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]}
    message = collected(answer(), part(delta), part({}, finish="tool_calls"))["choices"][0]["message"]
    assert (message["content"], message["refusal"]) == (None, None)


def test_the_old_form_of_a_function_call_is_joined_too() -> None:
    deltas = [{"function_call": {"name": "f", "arguments": '{"a'}}, {"function_call": {"arguments": '": 1}'}}]
    message = collected(answer(), *map(part, deltas), part({}, finish="function_call"))["choices"][0]["message"]
    assert message["function_call"] == {"name": "f", "arguments": '{"a": 1}'}


def test_a_refusal_of_the_model_passes_its_own_gate() -> None:
    whole = collected(answer(), part({"refusal": "Je ne "}), part({"refusal": "peux pas."}), part({}, finish="stop"))
    message = whole["choices"][0]["message"]
    assert (message["content"], message["refusal"]) == (None, "Je ne peux pas.")
    with pytest.raises(Drift):
        took(answer(GUARDED), part({"refusal": EN + EN}))


def test_the_model_s_reasoning_is_not_delivered() -> None:
    deltas = [{"reasoning_content": EN}, {"reasoning": EN}, {"content": "Oui."}]
    message = collected(answer(), *map(part, deltas), part({}, finish="stop"))["choices"][0]["message"]
    assert message == {"role": "assistant", "content": "Oui.", "refusal": None}


def token(name: str) -> dict[str, Any]:
    return {"content": [{"token": name, "logprob": -0.5}], "refusal": None}


@pytest.mark.parametrize("guards", [OPEN, GUARDED], ids=["open", "guarded"])
def test_no_log_probability_is_lost_though_tokens_may_carry_no_text(guards: Guards) -> None:
    made = answer(guards)
    chunks = [text(piece, logprobs=token(piece)) for piece in ("Votre demande", "", " est bien enregistrée", ". ", "")]
    released = took(made, *chunks, part({}, finish="stop", logprobs=token("<end>")))
    whole = collect.completion(released, None)
    names = [entry["token"] for entry in whole["choices"][0]["logprobs"]["content"]]
    assert names == ["Votre demande", "", " est bien enregistrée", ". ", "", "<end>"]


def test_log_probabilities_never_leave_before_their_text() -> None:
    made = answer(GUARDED)
    assert took(made, text("Votre demande", logprobs=token("a"))) == []
    first, *_ = took(made, text(" est bien enregistrée. Oui", logprobs=token("b")))
    names = [entry["token"] for entry in first["choices"][0]["logprobs"]["content"]]
    assert names == ["a"]


@given(cut("\n\n  Bonjour à vous.\n"))
def test_white_space_before_the_first_word_is_dropped_where_that_is_asked(pieces: list[str]) -> None:
    end = part({}, finish="stop")
    assert collected(answer(strip=True), *map(text, pieces), end)["choices"][0]["message"]["content"] == (
        "Bonjour à vous.\n"
    )
    assert collected(answer(), *map(text, pieces), end)["choices"][0]["message"]["content"][:2] == "\n\n"


def test_an_answer_is_complete_when_every_choice_that_began_has_ended() -> None:
    made = answer()
    assert not made.complete()
    took(made, text("a"))
    assert not made.complete()
    took(made, part(None, finish="stop"))
    assert made.complete()


def test_usage_is_kept_as_the_model_server_said_it() -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4, "prompt_tokens_details": {"cached": 2}}
    made = answer()
    whole = collected(made, text("Oui."), part({}, finish="stop"), {"choices": [], "usage": usage})
    assert whole["usage"] == usage
    assert made.usage_chunk(usage) == {**ENVELOPE, "choices": [], "usage": usage}


def test_our_refusal_takes_the_place_of_every_choice() -> None:
    whole = collect.completion(answer().refuse("Désolé.", 3), None)
    assert [(choice["message"]["content"], choice["finish_reason"]) for choice in whole["choices"]] == [
        ("Désolé.", "content_filter")
    ] * 3
    assert whole["object"] == "chat.completion"


@pytest.mark.parametrize(
    "chunk",
    [
        {"choices": "x"},
        {"choices": [None]},
        {"choices": [{"index": "0", "delta": {}}]},
        {"choices": [{"index": 0, "delta": "x"}]},
        {"choices": [{"index": 0, "delta": {"content": 7}}]},
        {"choices": [{"index": 0, "delta": {"refusal": ["x"]}}]},
    ],
)
def test_a_chunk_that_is_none_is_a_failure_of_the_model_server(chunk: Chunk) -> None:
    with pytest.raises(Failure):
        took(answer(), chunk)


@pytest.mark.parametrize("chunk", [{}, {"choices": None}, {"choices": []}, {"usage": None}, part(None), part({})])
def test_a_chunk_without_content_releases_nothing(chunk: Chunk) -> None:
    assert took(answer(), chunk) == []


def test_a_choice_whose_last_words_are_stopped_by_a_guard_still_ends_by_the_block() -> None:
    made = answer(GUARDED)
    with pytest.raises(Drift):
        took(made, text("This is an English sentence without an end"), part({}, finish="stop"))
    last = made.block("Fin.")
    assert [chunk["choices"][0]["finish_reason"] for chunk in last] == [None, "content_filter"]
