"""Personal data: what reaches a model of the house, what leaves it, and what comes back."""

import json
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.house import MODEL, House, house
from tests.upstream import Exchange, Script, chunk, refuses, says

PHONE, MAIL, IBAN = "06 12 34 56 78", "jeanne.martin@exemple.fr", "FR76 3000 6000 0112 3456 7890 189"
SECRETS = (PHONE, MAIL, IBAN)
ASKED = f"Écris à Jeanne pour confirmer : son numéro est le {PHONE}, son courriel {MAIL} et son compte {IBAN}."
DOWN = refuses(500, {"error": {"message": "down"}})


def bytes_sent(home: House) -> str:
    """Everything the outside server was sent."""
    return "".join(json.dumps([asked.headers, asked.body], ensure_ascii=False) for asked in home.outside.asked)


async def said(home: House, *, stream: bool = False, **fields: Any) -> tuple[str, Any]:
    """The text of the answer, and its headers."""
    messages = fields.pop("messages", [{"role": "user", "content": ASKED}])
    raw = await home.client().chat.completions.with_raw_response.create(
        model=MODEL, messages=messages, stream=stream, **fields
    )
    answer: Any = raw.parse()
    if not stream:
        return answer.choices[0].message.content, raw.headers
    text = ""
    async for event in answer:
        text += "".join(choice.delta.content or "" for choice in event.choices)
    return text, raw.headers


def echoes(*, step: int) -> Script:
    """Answers with the placeholders it was sent, in pieces of `step` characters."""

    async def script(exchange: Exchange) -> None:
        sent = exchange.body["messages"][-1]["content"]
        hidden = sent.partition("numéro est le ")[2].partition(",")[0]
        answer = f"Bonjour Jeanne, votre rendez-vous est confirmé : nous vous appellerons au {hidden} demain matin."
        await exchange.head()
        await exchange.text(*(answer[at : at + step] for at in range(0, len(answer), step)))
        await exchange.event(chunk({}, finish="stop"))
        await exchange.event("[DONE]")
        await exchange.end()

    return script


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("step", [1, 3, 200])
async def test_an_outside_model_sees_placeholders_and_the_caller_its_own_values(
    home: House, stream: bool, step: int
) -> None:
    home.local.answers(DOWN)
    home.outside.answers(echoes(step=step))
    text, headers = await said(home, stream=stream)
    assert text == f"Bonjour Jeanne, votre rendez-vous est confirmé : nous vous appellerons au {PHONE} demain matin."
    sent = bytes_sent(home)
    for secret in SECRETS:
        assert secret not in sent
        assert secret.replace(" ", "") not in sent.replace(" ", "")
    assert "[TEL_1]" in sent
    assert "personal_data=modified" in headers["x-passerelle-guards"]


async def test_nothing_personal_leaves_in_any_field_of_a_request(home: House) -> None:
    home.local.answers(DOWN)
    messages: list[Any] = [
        {"role": "system", "content": f"Le client : {MAIL}."},
        {"role": "user", "content": [{"type": "text", "text": f"Mon numéro est le {PHONE}."}]},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "a", "type": "function", "function": {"name": "virer", "arguments": f'{{"iban": "{IBAN}"}}'}}
            ],
        },
        {"role": "tool", "tool_call_id": "a", "content": f"Virement vers {IBAN} enregistré."},
        {"role": "user", "content": f"Rappelez-moi au {PHONE.replace(' ', '.')}."},
    ]
    tool = {"type": "function", "function": {"name": "virer", "description": f"Vire depuis {IBAN}.", "parameters": {}}}
    await said(home, messages=messages, tools=[tool], user=MAIL, stop=[PHONE])
    sent = bytes_sent(home)
    for secret in (*SECRETS, PHONE.replace(" ", "."), MAIL.partition("@")[0]):
        assert secret not in sent
    # One value is one placeholder, however it is written.
    assert sent.count("[TEL_1]") >= 2
    assert "[TEL_2]" not in sent


async def test_the_arguments_of_a_tool_are_given_back_too(home: House) -> None:
    async def calls(exchange: Exchange) -> None:
        await exchange.head()
        first = {"index": 0, "id": "c", "type": "function", "function": {"name": "appeler", "arguments": ""}}
        await exchange.event(chunk({"role": "assistant", "tool_calls": [first]}))
        for piece in ('{"numero": "[T', "EL_", '1]", "mail": "[EMAIL_1', ']"}'):
            await exchange.event(chunk({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}))
        await exchange.event(chunk({}, finish="tool_calls"))
        await exchange.event("[DONE]")
        await exchange.end()

    home.local.answers(DOWN)
    home.outside.answers(calls)
    tool: Any = {"type": "function", "function": {"name": "appeler", "parameters": {}}}
    answer = await home.client().chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": ASKED}], tools=[tool]
    )
    (call,) = answer.choices[0].message.tool_calls or []
    assert json.loads(call.function.arguments) == {"numero": PHONE, "mail": MAIL}  # type: ignore[union-attr]


async def test_a_model_of_the_house_sees_the_request_as_it_is(home: House) -> None:
    await said(home)
    assert home.local.asked[0].body["messages"][-1]["content"] == ASKED
    assert home.outside.asked == []


@pytest.mark.parametrize("stream", [False, True])
async def test_masked_data_reaches_no_model(tmp_path: Path, stream: bool) -> None:
    async with house(tmp_path, guards={"personal_data": {"own": "mask"}}) as home:
        _, headers = await said(home, stream=stream)
        content = home.local.asked[0].body["messages"][-1]["content"]
    assert content == (
        "Écris à Jeanne pour confirmer : son numéro est le [TÉLÉPHONE], son courriel [COURRIEL] et son compte [IBAN]."
    )
    assert "personal_data=modified" in headers["x-passerelle-guards"]


async def test_a_request_with_personal_data_may_be_refused_in_french(tmp_path: Path) -> None:
    async with house(tmp_path, guards={"personal_data": {"own": "refuse"}}) as home:
        with pytest.raises(openai.BadRequestError) as caught:
            await said(home)
        assert caught.value.code == "content_policy_violation"
        assert "données personnelles" in str(caught.value)
        assert PHONE not in str(caught.value)
        assert "personal_data=blocked" in caught.value.response.headers["x-passerelle-guards"]
        assert home.local.asked == home.outside.asked == []
        text, _ = await said(home, messages=[{"role": "user", "content": "Comment suivre mon avis ?"}])
        assert text


@pytest.mark.parametrize(("policy", "seen"), [("allow", PHONE), ("mask", "[TÉLÉPHONE]")])
async def test_what_leaves_the_house_is_the_tenant_s_to_say(tmp_path: Path, policy: str, seen: str) -> None:
    guards = {"personal_data": {"outside": "refuse"}, "tenants": {"acme": {"personal_data": {"outside": policy}}}}
    async with house(tmp_path, guards=guards) as home:
        home.local.answers(DOWN)
        await said(home)
        assert seen in bytes_sent(home)


async def test_text_with_personal_data_may_be_kept_from_outside_models(tmp_path: Path) -> None:
    async with house(tmp_path, guards={"personal_data": {"outside": "refuse"}}) as home:
        home.local.answers(DOWN)
        with pytest.raises(openai.InternalServerError):
            await said(home)
        assert home.outside.asked == []
        text, _ = await said(home, messages=[{"role": "user", "content": "Comment suivre mon avis ?"}])
        assert text  # by the outside model: nothing personal is in it
        assert len(home.outside.asked) == 1


async def test_where_only_an_outside_model_is_left_the_caller_is_told_why(tmp_path: Path) -> None:
    models = {MODEL: {"targets": ["outside"]}}
    async with house(tmp_path, guards={"personal_data": {"outside": "refuse"}}, models=models) as home:
        with pytest.raises(openai.BadRequestError) as caught:
            await said(home)
        assert caught.value.code == "content_policy_violation"
        assert home.outside.asked == []


INVENTED = ("Vous pouvez joindre le service client au 01 98 76 54 32 du lundi au vendredi. ", "Bonne journée à vous.")


@pytest.mark.parametrize(
    ("policy", "number", "verdict"), [("allow", "01 98 76 54 32", "flagged"), ("mask", "[TÉLÉPHONE]", "modified")]
)
async def test_a_number_that_nobody_gave_to_the_model_may_be_masked(
    tmp_path: Path, policy: str, number: str, verdict: str
) -> None:
    async with house(tmp_path, guards={"personal_data": {"answers": policy}}) as home:
        home.local.answers(says(*INVENTED))
        text, headers = await said(home)
    assert text == "".join(INVENTED).replace("01 98 76 54 32", number)
    assert f"personal_data={verdict}" in headers["x-passerelle-guards"]


async def test_log_probabilities_do_not_show_what_is_masked(tmp_path: Path) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.head()
        for token in ("Appelez", " le", " 01", " 98", " 76", " 54", " 32", " dans", " la", " journée."):
            logprobs: dict[str, Any] = {
                "content": [{"token": token, "logprob": -0.1, "bytes": None, "top_logprobs": []}]
            }
            await exchange.event(chunk({"content": token}, logprobs=logprobs))
        await exchange.event(chunk({}, finish="stop"))
        await exchange.event("[DONE]")
        await exchange.end()

    async with house(tmp_path, guards={"personal_data": {"answers": "mask"}}) as home:
        home.local.answers(script)
        answer = await home.client().chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": "Qui appeler ?"}], logprobs=True
        )
    assert answer.choices[0].message.content == "Appelez le [TÉLÉPHONE] dans la journée."
    assert "98" not in answer.choices[0].model_dump_json()


async def test_a_number_of_the_request_may_be_repeated(tmp_path: Path) -> None:
    async with house(tmp_path, guards={"personal_data": {"answers": "mask"}}) as home:
        answer = "C'est noté : nous vous rappellerons au 06.12.34.56.78 demain dans la matinée."
        home.local.answers(says(answer))
        text, _ = await said(home)
    assert text == answer


async def test_vectors_are_made_outside_of_placeholders_alone(tmp_path: Path) -> None:
    targets = {"outside": {"tasks": ["embeddings"]}}
    vectors = {"object": "list", "data": [{"object": "embedding", "index": 0, "embedding": [0.5]}], "usage": {}}
    async with house(tmp_path, targets=targets, models={MODEL: {"targets": ["outside"]}}) as home:
        home.outside.answers(refuses(200, vectors))
        await home.client().embeddings.create(model=MODEL, input=ASKED, encoding_format="float")
        assert PHONE not in bytes_sent(home)
        assert "[TEL_1]" in bytes_sent(home)
