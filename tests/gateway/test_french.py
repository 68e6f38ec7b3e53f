"""French is a contract on what is delivered: a scripted model that leaves French never reaches the caller in it."""

from typing import Any

import pytest

from gateway.steering import FIRM_INSTRUCTION, OPENING
from gateway.wording import CLOSING, REFUSAL
from tests.house import MODEL, House
from tests.upstream import says

FRENCH = (
    "Vous pouvez suivre votre avis ",
    "depuis votre espace personnel. ",
    "Un courriel vous est envoyé ",
    "à chaque étape.",
)
ENGLISH = ("You can follow your review ", "from your personal space. ", "An e-mail is sent to you ", "at every step.")
DRIFT = ("Voici comment procéder sur notre plateforme. ", "La page de suivi montre chaque étape. ", *ENGLISH)
QUESTION: list[Any] = [{"role": "user", "content": "Comment suivre mon avis ?"}]


async def ask(home: House, *, stream: bool) -> tuple[str, str | None, dict[str, str]]:
    """The text, the finish reason and the headers of one answer, through the official SDK."""
    raw = await home.client().chat.completions.with_raw_response.create(model=MODEL, messages=QUESTION, stream=stream)
    headers = dict(raw.headers)
    answer = raw.parse()
    if not stream:
        return answer.choices[0].message.content or "", answer.choices[0].finish_reason, headers  # type: ignore[union-attr]
    text, finish = "", None
    async for chunk in answer:  # type: ignore[union-attr]
        for choice in chunk.choices:
            text += choice.delta.content or ""
            finish = choice.finish_reason or finish
    return text, finish, headers


async def row(home: House, headers: dict[str, str]) -> list[tuple[str, str]]:
    """The ledger's account of it: kind and target of each row."""
    return [(row["kind"], row["target"]) for row in await home.ledger(headers["x-request-id"])]


@pytest.mark.parametrize("stream", [True, False])
async def test_a_french_answer_is_delivered_whole(home: House, stream: bool) -> None:
    home.local.answers(says(*FRENCH))
    text, finish, headers = await ask(home, stream=stream)
    assert (text, finish) == ("".join(FRENCH), "stop")
    assert headers["x-passerelle-guards"] == (
        "language=passed; terms=off; personal_data=passed; injection=passed; moderation=passed; distress=passed; "
        "leaks=not_evaluated; loops=passed"
    )
    assert await row(home, headers) == [("settle", "local")]


@pytest.mark.parametrize("stream", [True, False])
async def test_an_english_answer_is_asked_again_firmly_and_with_a_french_opening(home: House, stream: bool) -> None:
    home.local.answers(says(*ENGLISH), says(*FRENCH))
    text, finish, headers = await ask(home, stream=stream)
    assert (text, finish) == ("".join(FRENCH), "stop")
    again = home.local.asked[1].body
    assert FIRM_INSTRUCTION in again["messages"][0]["content"]
    assert again["messages"][-1] == {"role": "assistant", "content": OPENING}
    assert again["continue_final_message"] is True
    assert again["add_generation_prompt"] is False
    assert headers["x-passerelle-repairs"] == "1"
    assert headers["x-passerelle-guards"].startswith("language=modified")
    assert await row(home, headers) == [("regeneration", "local"), ("settle", "local")]


@pytest.mark.parametrize("stream", [True, False])
async def test_a_model_that_stays_english_is_replaced_by_the_next_target(home: House, stream: bool) -> None:
    home.local.answers(says(*ENGLISH))
    home.outside.answers(says(*FRENCH))
    text, finish, headers = await ask(home, stream=stream)
    assert (text, finish) == ("".join(FRENCH), "stop")
    assert headers["x-passerelle-target"] == "outside"
    assert headers["x-passerelle-attempts"] == "local=drifted, local+firm=drifted, outside+firm=served"
    # The outside model knows nothing of vLLM's own fields: it gets the instruction alone.
    assert FIRM_INSTRUCTION in home.outside.asked[0].body["messages"][0]["content"]
    assert "continue_final_message" not in home.outside.asked[0].body
    assert await row(home, headers) == [("regeneration", "local"), ("regeneration", "local"), ("settle", "outside")]


@pytest.mark.parametrize("stream", [True, False])
async def test_when_nobody_answers_in_french_the_caller_gets_an_honest_french_refusal(
    home: House, stream: bool
) -> None:
    home.local.answers(says(*ENGLISH))
    home.outside.answers(says(*ENGLISH))
    text, finish, headers = await ask(home, stream=stream)
    assert (text, finish) == (REFUSAL, "content_filter")
    assert headers["x-passerelle-guards"].startswith("language=blocked")
    rows = await home.ledger(headers["x-request-id"])
    assert [entry["kind"] for entry in rows] == ["regeneration"] * 3 + ["release"]
    assert rows[-1]["state"] == "blocked"
    assert rows[-1]["completion_tokens"] == 0  # the caller pays for nothing that was thrown away


async def test_a_stream_that_turns_english_in_mid_answer_ends_in_french_before_it(home: House) -> None:
    home.local.answers(says(*DRIFT))
    home.outside.answers(says(*FRENCH))
    text, finish, headers = await ask(home, stream=True)
    assert text.startswith("".join(DRIFT[:2]).rstrip())
    assert text.endswith(f"chaque étape.{CLOSING}")
    assert finish == "content_filter"
    assert home.outside.asked == []  # one model an answer
    rows = await home.ledger(headers["x-request-id"])
    assert (rows[-1]["kind"], rows[-1]["state"]) == ("settle", "blocked")
    assert "language=blocked" in rows[-1]["guards"]


async def test_a_plain_answer_that_turns_english_in_its_middle_is_replaced_whole(home: House) -> None:
    home.local.answers(says(*DRIFT))
    home.outside.answers(says(*FRENCH))
    text, finish, headers = await ask(home, stream=False)
    assert (text, finish) == ("".join(FRENCH), "stop")
    assert headers["x-passerelle-target"] == "outside"


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("english", [ENGLISH, DRIFT])
async def test_no_english_sentence_leaves_whatever_happens(home: House, stream: bool, english: tuple[str, ...]) -> None:
    home.local.answers(says(*english))
    home.outside.answers(says(*english))
    raw = await home.client().chat.completions.with_raw_response.create(model=MODEL, messages=QUESTION, stream=stream)
    body = (await raw.http_response.aread()).decode()
    assert "personal space" not in body
    assert "You can" not in body


async def test_text_of_a_caller_that_may_not_leave_is_never_sent_outside(home: House) -> None:
    home.local.answers(says(*ENGLISH))
    client = home.client(may_leave=False)
    answer = await client.chat.completions.create(model=MODEL, messages=QUESTION)
    assert answer.choices[0].message.content == REFUSAL
    assert home.outside.asked == []


async def test_annotate_delivers_and_says_so(plain_home: House) -> None:
    plain_home.local.answers(says(*ENGLISH))
    text, finish, headers = await ask(plain_home, stream=False)
    assert (text, finish) == ("".join(ENGLISH), "stop")
    assert headers["x-passerelle-guards"].startswith("language=flagged")
