"""`/v1/completions` through the official SDK: a bare prompt, with the same guards, repairs and refusals as a conversation."""

from pathlib import Path
from typing import Any

import openai
import pytest

from gateway.steering import FIRM_INSTRUCTION
from gateway.wording import REFUSAL
from tests.house import MODEL, House, house
from tests.upstream import Exchange, Script, refuses

PROMPT = "Il était une fois, dans une petite ville,"
FRENCH = " un boulanger qui aimait beaucoup lire les avis de ses clients."
ENGLISH = " a baker who liked to read all of the reviews that his customers wrote about him."


def goes_on(*texts: str, finish: str = "stop", logprobs: bool = False) -> Script:
    """A text completion as vLLM streams it, one token a text, with usage."""

    async def script(exchange: Exchange) -> None:
        await exchange.head()
        prompts = exchange.body["prompt"] if isinstance(exchange.body["prompt"], list) else [exchange.body["prompt"]]
        for index in range(len(prompts) * (exchange.body.get("n") or 1)):
            for number, text in enumerate(texts):
                said = {"tokens": [text], "token_logprobs": [-0.5], "top_logprobs": [{}], "text_offset": [number]}
                choice = {"index": index, "text": text, "logprobs": said if logprobs else None, "finish_reason": None}
                await exchange.event({"id": "up", "object": "text_completion", "choices": [choice]})
            last = {"index": index, "text": "", "logprobs": None, "finish_reason": finish, "stop_reason": None}
            await exchange.event({"id": "up", "object": "text_completion", "choices": [last]})
        usage = {"prompt_tokens": 9, "completion_tokens": len(texts), "total_tokens": 9 + len(texts)}
        await exchange.event({"id": "up", "object": "text_completion", "choices": [], "usage": usage})
        await exchange.event("[DONE]")
        await exchange.end()

    return script


async def test_a_plain_answer_has_text_finish_usage_and_our_model_name(home: House) -> None:
    home.local.answers(goes_on(FRENCH, finish="length"))
    answer = await home.client().completions.create(model=MODEL, prompt=PROMPT, max_tokens=40, temperature=0)
    assert (answer.object, answer.model, answer.choices[0].text) == ("text_completion", MODEL, FRENCH)
    assert answer.id.startswith("cmpl-")
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (9, 1)
    sent = home.local.asked[0].body
    assert (sent["prompt"], sent["max_tokens"], sent["temperature"], sent["model"]) == (PROMPT, 40, 0, "falcon")
    assert "messages" not in sent


async def test_a_stream_has_the_same_text_and_usage_when_asked(home: House) -> None:
    home.local.answers(goes_on(*FRENCH.split(" ")[1:], " Fin."))
    stream = await home.client().completions.create(
        model=MODEL, prompt=PROMPT, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    assert "".join(chunk.choices[0].text for chunk in chunks[:-1]) == "".join(FRENCH.split(" ")[1:]) + " Fin."
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None


async def test_every_prompt_has_its_answers_with_their_log_probabilities(home: House) -> None:
    home.local.answers(goes_on(FRENCH[:20], FRENCH[20:], logprobs=True))
    answer = await home.client().completions.create(model=MODEL, prompt=[PROMPT, PROMPT], n=2, logprobs=1)
    assert [(choice.index, choice.text) for choice in answer.choices] == [(index, FRENCH) for index in range(4)]
    assert answer.choices[3].logprobs is not None
    assert answer.choices[3].logprobs.tokens == [FRENCH[:20], FRENCH[20:]]


@pytest.mark.parametrize("stream", [True, False])
async def test_an_answer_that_is_not_french_is_asked_again_with_the_instruction_before_the_prompt(
    home: House, stream: bool
) -> None:
    home.local.answers(goes_on(ENGLISH), goes_on(FRENCH))
    assert await text_of(home, stream=stream) == FRENCH
    assert home.local.asked[1].body["prompt"] == f"{FIRM_INSTRUCTION}\n\n{PROMPT}"


@pytest.mark.parametrize("stream", [True, False])
async def test_one_that_never_is_french_becomes_a_french_refusal_and_no_chat_model_is_asked(
    home: House, stream: bool
) -> None:
    home.local.answers(goes_on(ENGLISH))
    assert await text_of(home, stream=stream) == REFUSAL
    assert home.outside.asked == []


async def test_a_failure_is_told_since_no_other_target_goes_on_from_a_prompt(home: House) -> None:
    home.local.answers(refuses(500))
    with pytest.raises(openai.InternalServerError) as failed:
        await home.client().completions.create(model=MODEL, prompt=PROMPT)
    assert failed.value.status_code == 502
    assert home.outside.asked == []


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": [1, 2, 3]}, "prompt"),
        ({"prompt": [[1, 2], [3]]}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": [PROMPT] * 5, "n": 2}, "n"),
        ({"prompt": PROMPT, "extra_body": {"max_tokens": 0}}, "max_tokens"),
        ({"prompt": PROMPT, "extra_body": {"stream_options": {"include_usage": True}}}, "stream_options"),
    ],
)
async def test_a_wrong_field_is_refused_by_its_name_and_nothing_is_asked(
    home: House, fields: dict[str, Any], param: str
) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        await home.client().completions.create(model=MODEL, **fields)
    assert refused.value.param == param
    assert home.local.asked == []


async def test_the_strings_that_end_a_turn_of_a_template_do_not_end_a_completion(tmp_path: Path) -> None:
    defaults = {"stop": ["\nQuestion :"], "repetition_penalty": 1.1}
    async with house(tmp_path, targets={"local": {"defaults": defaults}}) as home:
        home.local.answers(goes_on(FRENCH))
        await home.client().completions.create(model=MODEL, prompt=PROMPT)
        assert "stop" not in home.local.asked[0].body
        assert home.local.asked[0].body["repetition_penalty"] == 1.1


async def text_of(home: House, *, stream: bool) -> str:
    client = home.client()
    if not stream:
        return (await client.completions.create(model=MODEL, prompt=PROMPT)).choices[0].text
    chunks = await client.completions.create(model=MODEL, prompt=PROMPT, stream=True)
    return "".join([chunk.choices[0].text async for chunk in chunks])
