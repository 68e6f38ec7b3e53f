"""An answer that leaves French after it has begun is gone on with, in French, by the same model: the caller sees one answer."""

from pathlib import Path
from typing import Any

import pytest

from gateway.steering import CONNECTIVES, FIRM_INSTRUCTION
from gateway.wording import CLOSING
from tests.house import MODEL, House, house
from tests.upstream import Exchange, Script, chunk, refuses, says, usage

QUESTION: list[Any] = [{"role": "user", "content": "Comment suivre mon avis ?"}]
GOOD = ("Voici comment procéder sur notre plateforme. ", "La page de suivi montre chaque étape.")
ENGLISH = (" You can follow your review ", "from your personal space. ", "An e-mail is sent to you ", "at every step.")
REST = (" vous recevez un courriel à chaque étape.", " Merci de votre patience et de votre confiance.")


def counts(*texts: str, prompt: int = 10) -> Script:
    """Says so, one token a text, and counts in every chunk as vLLM does when asked to."""

    async def script(exchange: Exchange) -> None:
        await exchange.head()
        for number, text in enumerate(texts, start=1):
            await exchange.event({**chunk({"content": text}), "usage": usage(prompt, number)["usage"]})
        await exchange.event(chunk({}, finish="stop"))
        await exchange.event(usage(prompt, len(texts)))
        await exchange.event("[DONE]")
        await exchange.end()

    return script


DRIFT = counts(*GOOD, *ENGLISH)


async def told(home: House, **fields: Any) -> tuple[str, str | None, dict[str, Any], str]:
    """The text, the finish, the usage and the request id of a streamed answer."""
    raw = await home.client().chat.completions.with_raw_response.create(
        model=MODEL, messages=QUESTION, stream=True, stream_options={"include_usage": True}, **fields
    )
    text, finish = "", None
    used: dict[str, Any] = {}
    async for event in raw.parse():
        used = event.usage.model_dump() if event.usage else used
        for choice in event.choices:
            text += choice.delta.content or ""
            finish = choice.finish_reason or finish
    return text, finish, used, raw.headers["x-request-id"]


async def test_it_goes_on_from_its_last_good_sentence_and_reads_as_one_answer(home: House) -> None:
    home.local.answers(DRIFT, counts(*REST, prompt=30))
    text, finish, used, request_id = await told(home)
    assert text == f"{''.join(GOOD)} {CONNECTIVES[0]}{''.join(REST)}"
    assert finish == "stop"
    again = home.local.asked[1].body
    assert FIRM_INSTRUCTION in again["messages"][0]["content"]
    assert again["messages"][-1] == {"role": "assistant", "content": f"{''.join(GOOD)} {CONNECTIVES[0]}"}
    assert (again["continue_final_message"], again["add_generation_prompt"]) == (True, False)
    # Both tries were made, and the usage says so (the first was ended at the foreign sentence, its fourth token). The caller is
    # charged for what it got: two tokens of each.
    assert (used["prompt_tokens"], used["completion_tokens"]) == (10 + 30, 4 + 2)
    rows = await home.ledger(request_id)
    assert [(row["kind"], row["prompt_tokens"], row["completion_tokens"]) for row in rows] == [
        ("regeneration", 0, 2),
        ("regeneration", 30, 0),
        ("settle", 10, 4),
    ]
    assert "language=modified" in rows[-1]["guards"]
    assert rows[-1]["state"] == "completed"


async def test_the_tokens_that_are_left_bound_what_goes_on(home: House) -> None:
    home.local.answers(DRIFT, says(*REST))
    await told(home, max_tokens=40)
    assert [asked.body["max_tokens"] for asked in home.local.asked] == [40, 38]


async def test_it_is_repaired_twice_at_most_and_then_ends_honestly_in_french(home: House) -> None:
    home.local.answers(DRIFT, counts(REST[0], *ENGLISH), counts(REST[1], *ENGLISH))
    home.outside.answers(says(*GOOD))
    text, finish, used, request_id = await told(home)
    assert text == f"{''.join(GOOD)} {CONNECTIVES[0]}{REST[0]} {CONNECTIVES[1]}{REST[1]}{CLOSING}"
    assert finish == "content_filter"
    assert len(home.local.asked) == 3
    assert home.outside.asked == []  # one model an answer
    assert used["completion_tokens"] == 4 + 3 + 3
    rows = await home.ledger(request_id)
    assert (rows[-1]["kind"], rows[-1]["state"], rows[-1]["completion_tokens"]) == ("settle", "blocked", 2 + 1 + 1)
    assert "language=blocked" in rows[-1]["guards"]


async def test_nothing_english_is_ever_seen_in_the_stream(home: House) -> None:
    home.local.answers(DRIFT, says(REST[0], *ENGLISH), says(*ENGLISH))
    text, _, _, _ = await told(home)
    assert "You can" not in text
    assert "personal" not in text


@pytest.mark.parametrize("script", [refuses(500, {"error": {"message": "no"}}), refuses(400, {"error": {}})])
async def test_a_repair_that_fails_ends_the_answer_honestly(home: House, script: Script) -> None:
    home.local.answers(DRIFT, script)
    text, finish, _, request_id = await told(home)
    assert (text, finish) == ("".join(GOOD) + CLOSING, "content_filter")
    rows = await home.ledger(request_id)
    assert (rows[-1]["kind"], rows[-1]["state"], rows[-1]["completion_tokens"]) == ("settle", "blocked", 2)


async def test_an_answer_in_a_list_goes_on_in_a_line_of_its_own(home: House) -> None:
    listed = ("- Ouvrez la page de suivi de votre avis.\n", "- Choisissez l'avis qui vous intéresse.\n")
    home.local.answers(says(*listed, *ENGLISH), says(*REST))
    text, _, _, _ = await told(home)
    assert text == f"{''.join(listed)}\n{CONNECTIVES[0]}{''.join(REST)}"


async def test_how_often_is_configured(tmp_path: Path) -> None:
    async with house(tmp_path, guards={"language": {"repairs": 0}}) as home:
        home.local.answers(DRIFT, says(*REST))
        text, finish, _, _ = await told(home)
        assert (text, finish) == ("".join(GOOD) + CLOSING, "content_filter")
        assert len(home.local.asked) == 1


async def test_an_answer_of_several_choices_is_not_gone_on_with(home: House) -> None:
    async def two(exchange: Exchange) -> None:
        await exchange.head()
        for text in (*GOOD, *ENGLISH):
            for index in (0, 1):
                await exchange.text(text, index=index)
        await exchange.event("[DONE]")
        await exchange.end()

    home.local.answers(two)
    text, finish, _, _ = await told(home, n=2)
    assert (text.count(CLOSING), finish) == (2, "content_filter")
    assert len(home.local.asked) == 1


async def test_a_bare_prompt_goes_on_as_a_longer_one(home: House) -> None:
    def speaks(*texts: str) -> Script:
        async def script(exchange: Exchange) -> None:
            await exchange.head()
            for text in texts:
                await exchange.event({**chunk({}), "choices": [{"index": 0, "text": text, "finish_reason": None}]})
            await exchange.event({**chunk({}), "choices": [{"index": 0, "text": "", "finish_reason": "stop"}]})
            await exchange.event("[DONE]")
            await exchange.end()

        return script

    home.local.answers(speaks(*GOOD, *ENGLISH), speaks(*REST))
    text = ""
    stream = await home.client().completions.create(model=MODEL, prompt="Il était une fois", stream=True)
    async for event in stream:
        text += "".join(choice.text for choice in event.choices)
    assert text == f"{''.join(GOOD)} {CONNECTIVES[0]}{''.join(REST)}"
    assert home.local.asked[1].body["prompt"].endswith(f"Il était une fois{''.join(GOOD)} {CONNECTIVES[0]}")
