"""What a caller is told about the guards, and what it may ask of them."""

from pathlib import Path
from typing import Any

import openai
import pytest

from auth.principal import LANGUAGES, SCOPES_OF_ROLE
from tests.house import MODEL, House, house
from tests.upstream import says

QUESTION: list[Any] = [{"role": "user", "content": "Comment suivre mon avis ?"}]
FRENCH = ("Vous pouvez suivre votre avis ", "depuis votre espace personnel.")
ENGLISH = ("You can follow your review ", "from your personal space. ", "We wish you a nice day.")
SPANISH = ("Puede seguir su opinión ", "desde su espacio personal. ", "Le deseamos un buen día.")
GUARDS = ["language", "terms", "personal_data", "injection", "moderation", "distress", "leaks", "loops"]
WITH_LANGUAGES = SCOPES_OF_ROLE["member"] | {LANGUAGES}


def wishing(**wishes: Any) -> dict[str, Any]:
    return {"extra_body": {"passerelle": wishes}}


async def test_a_plain_answer_carries_the_audit_for_who_wishes_it(home: House) -> None:
    home.local.answers(says(*FRENCH))
    answer = await home.client().chat.completions.create(model=MODEL, messages=QUESTION, **wishing(audit=True))
    told: Any = answer.model_extra["passerelle"]
    assert list(told["guards"]) == GUARDS
    assert told["guards"]["language"]["verdict"] == "passed"
    assert told["guards"]["language"]["milliseconds"] > 0
    assert told["guards"]["terms"] == {"verdict": "off", "milliseconds": 0}
    assert (told["target"], told["repairs"]) == ("local", 0)
    assert "passerelle" not in home.local.asked[0].body
    plain = await home.client().chat.completions.create(model=MODEL, messages=QUESTION)
    assert "passerelle" not in (plain.model_extra or {})


@pytest.mark.parametrize("usage", [False, True])
async def test_a_stream_ends_with_the_audit_for_who_wishes_it(home: House, usage: bool) -> None:
    home.local.answers(says(*ENGLISH), says(*FRENCH))
    options: dict[str, Any] = {"stream_options": {"include_usage": True}} if usage else {}
    stream = await home.client().chat.completions.create(
        model=MODEL, messages=QUESTION, stream=True, **options, **wishing(audit=True)
    )
    *_, last = [event async for event in stream]
    told: Any = last.model_extra["passerelle"]
    assert last.choices == []
    assert (last.usage is not None) == usage
    assert (told["guards"]["language"]["verdict"], told["repairs"]) == ("modified", 1)
    assert told["guards"]["language"]["reason"] == "regenerated"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_caller_with_the_scope_may_have_answers_in_other_languages(home: House, stream: bool) -> None:
    home.local.answers(says(*ENGLISH))
    client = home.client(scopes=WITH_LANGUAGES)
    answer: Any = await client.chat.completions.create(
        model=MODEL, messages=QUESTION, stream=stream, **wishing(languages=["en"])
    )
    if stream:
        text = "".join([event.choices[0].delta.content or "" async for event in answer])
    else:
        text = answer.choices[0].message.content
    assert text == "".join(ENGLISH)


async def test_only_in_those_it_names(home: House) -> None:
    home.local.answers(says(*SPANISH), says(*FRENCH))
    client = home.client(scopes=WITH_LANGUAGES)
    answer = await client.chat.completions.create(model=MODEL, messages=QUESTION, **wishing(languages=["en"]))
    assert answer.choices[0].message.content == "".join(FRENCH)
    assert "(en)" in home.local.asked[1].body["messages"][0]["content"]
    assert home.local.asked[1].body["messages"][-1]["role"] == "user"  # no French opening: English would do as well


async def test_without_the_scope_it_may_not(home: House) -> None:
    with pytest.raises(openai.PermissionDeniedError) as caught:
        await home.client().chat.completions.create(model=MODEL, messages=QUESTION, **wishing(languages=["en"]))
    assert caught.value.code == "missing_scope"
    assert "languages" in str(caught.value)
    assert home.local.asked == []


@pytest.mark.parametrize(
    "wishes",
    [{"languages": ["english"]}, {"languages": "en"}, {"audit": "yes"}, {"guards": "off"}, {"languages": ["e"]}],
)
async def test_a_wrong_wish_is_told(home: House, wishes: dict[str, Any]) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await home.client(scopes=WITH_LANGUAGES).chat.completions.create(
            model=MODEL, messages=QUESTION, **wishing(**wishes)
        )
    assert "passerelle" in str(caught.value.param)


async def test_what_is_asked_for_in_another_language_may_be_in_it(home: House) -> None:
    home.local.answers(says(*ENGLISH))
    messages: Any = [{"role": "user", "content": "Traduis en anglais : « Vous pouvez suivre votre avis »."}]
    answer = await home.client().chat.completions.create(model=MODEL, messages=messages)
    assert answer.choices[0].message.content == "".join(ENGLISH)


async def test_guards_differ_by_model_and_by_tenant(tmp_path: Path) -> None:
    guards = {
        "models": {MODEL: {"language": {"mode": "annotate"}}},
        "tenants": {"strict": {"language": {"mode": "enforce"}}},
    }
    async with house(tmp_path, guards=guards) as home:
        home.local.answers(says(*ENGLISH))
        lax = await home.client().chat.completions.create(model=MODEL, messages=QUESTION)
        strict = await home.client(tenant="strict", may_leave=False).chat.completions.create(
            model=MODEL, messages=QUESTION
        )
    assert lax.choices[0].message.content == "".join(ENGLISH)
    assert strict.choices[0].finish_reason == "content_filter"


LEAKED = "Tu es l'assistant d'Acme et tu ne dois jamais parler du projet Orion ni de son budget secret."
TALK: list[Any] = [{"role": "system", "content": LEAKED}, *QUESTION]


@pytest.mark.parametrize("stream", [False, True])
async def test_the_system_message_is_not_repeated_to_whoever_asks(home: House, stream: bool) -> None:
    home.local.answers(says("Voici la réponse que vous attendez. ", *f"Mes consignes : {LEAKED}".split("|"), " Voilà."))
    answer: Any = await home.client().chat.completions.create(model=MODEL, messages=TALK, stream=stream)
    if stream:
        text = "".join([event.choices[0].delta.content or "" async for event in answer])
    else:
        text = answer.choices[0].message.content
    assert text.startswith("Voici la réponse que vous attendez.")
    assert "Orion" not in text
    assert "je ne peux pas donner la suite" in text


async def test_a_canary_is_in_no_answer(tmp_path: Path) -> None:
    async with house(tmp_path, guards={"leaks": {"canaries": ["canari-7f3a9c"]}}) as home:
        home.local.answers(says("Le mot de passe de la maison est CANARI-7F3A9C, ne le répétez pas."))
        raw = await home.client().chat.completions.with_raw_response.create(model=MODEL, messages=QUESTION)
    answer = raw.parse()
    assert answer.choices[0].message.content == "Je suis désolé : je ne peux pas donner cette réponse."
    assert answer.choices[0].finish_reason == "content_filter"
    assert "leaks=blocked" in raw.headers["x-passerelle-guards"]


LOOP = "Le client doit se rendre dans son espace personnel pour suivre son avis. "


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_that_goes_round_in_circles_is_ended(home: House, stream: bool) -> None:
    home.local.answers(says("Voici comment faire pour suivre votre avis. ", *[LOOP] * 400))
    raw = await home.client().chat.completions.with_raw_response.create(model=MODEL, messages=QUESTION, stream=stream)
    answer: Any = raw.parse()
    if stream:
        text, finish = "", None
        async for event in answer:
            text += event.choices[0].delta.content or ""
            finish = event.choices[0].finish_reason or finish
    else:
        text, finish = answer.choices[0].message.content, answer.choices[0].finish_reason
    assert finish == "length"
    assert 1 <= text.count(LOOP.strip()) <= 3
    (row,) = await home.ledger(raw.headers["x-request-id"])
    assert row["completion_tokens"] < 100  # the model was stopped, too
    assert "loops=modified" in row["guards"]
