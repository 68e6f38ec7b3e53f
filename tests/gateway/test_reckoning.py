"""What a request may use at most, against what rendering the real templates and counting gives."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import jinja2
import orjson
import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Model

from gateway import completions, embeddings
from gateway.protocol import Request
from gateway.reckoning import MESSAGE, PROMPT, TOOLS, Reckoner
from gateway.settings import Settings
from gateway.target import Target
from tests.gateway import vocabularies
from tests.gateway.requests import request, target
from tests.serving.test_templates import NAMES, render

Counted = tuple[Reckoner, Target, Model]
CONVERSATION = 320  # what the longest of our templates adds, by the least apt tokenizer
BY_BYTES, PLAIN = Reckoner(Settings()), target(template_tokens=CONVERSATION)
NL, LS = "\n", "\u2028"
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
TOOL = {"type": "function", "function": {"name": "chercher", "parameters": {"type": "object", "properties": {}}}}


def reckoner(path: Path) -> tuple[Reckoner, Target]:
    """A reckoner of one target with that tokenizer, and the target."""
    of = target(tokenizer=path, template_tokens=CONVERSATION)
    return Reckoner(Settings(targets={"a": of})), of


@pytest.fixture(scope="module", params=[vocabularies.byte_level, vocabularies.byte_fallback], ids=["bpe", "unigram"])
def counted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Counted:
    make: Callable[[], Model] = request.param
    model = make()
    return *reckoner(vocabularies.saved(model, tmp_path_factory.mktemp("model"))), model


def real(model: Model, text: str) -> int:
    return len(model.encode(text, add_special_tokens=False))


WORDS = st.sampled_from(
    [
        "bonjour",
        " avis",
        "\n",
        "\n\n",
        "  ",
        "\t",
        "\r\n",
        "\u2028",
        "\u00a0",
        "déposé",
        "👩‍👩‍👧",
        "<bos>",
        "\ufdfa",
        "Réponse :",
        "l'",
    ]
)
TEXTS = st.one_of(
    st.text(max_size=200), st.lists(WORDS, max_size=60).map("".join), WORDS.map(lambda word: f"a{word * 300}a")
)
CONTENTS = st.one_of(
    TEXTS,
    st.lists(st.one_of(st.just(""), TEXTS), max_size=6).map(
        lambda texts: [{"type": "text", "text": text} for text in texts]
    ),
)


@st.composite
def conversations(draw: st.DrawFn) -> list[dict[str, Any]]:
    """A system text, perhaps, then turns."""
    system = draw(st.lists(CONTENTS, max_size=2))
    turns = draw(st.integers(1, 5))
    return [{"role": "system", "content": content} for content in system] + [
        {"role": "assistant", "content": draw(TEXTS)} if turn % 2 else {"role": "user", "content": draw(CONTENTS)}
        for turn in range(turns)
    ]


def rendered(messages: list[dict[str, Any]]) -> list[str]:
    prompts = []
    for name in NAMES:
        with suppress(jinja2.TemplateError):
            prompts.append(render(name, messages))
    return prompts


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(messages=conversations())
@example(messages=[{"role": "user", "content": "a" + "\n" * 2000 + "a"}])
@example(messages=[{"role": "user", "content": f"a{2000 * NL}a"}, {"role": "assistant", "content": f"a{2000 * LS}a"}])
@example(messages=[{"role": "user", "content": "a" + "\tinstruct" * 300}])  # one piece alone, several after a space
@example(messages=[{"role": "user", "content": [{"type": "text", "text": ""}] * 500}])
@example(messages=[{"role": "user", "content": "x"}, *[{"role": "assistant", "content": ""}] * 100])
async def test_no_template_makes_a_longer_prompt_than_was_reckoned(
    counted: Counted, messages: list[dict[str, Any]]
) -> None:
    reckoned, of, model = counted
    asked, prompts = request(messages=messages), rendered(messages)
    assume(prompts)
    most = max(real(model, prompt) for prompt in prompts)
    assert most <= await reckoned.prompt_tokens(of, asked)
    assert most <= await reckoned.prompt_tokens(PLAIN, asked)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(prompts=st.lists(TEXTS.filter(bool), min_size=1, max_size=5))
async def test_bare_prompts_are_never_longer_than_was_reckoned(counted: Counted, prompts: list[str]) -> None:
    reckoned, of, model = counted
    least = sum(real(model, prompt) + 1 for prompt in prompts)
    for asked in (continues(*prompts), embeds(*prompts)):
        assert least <= await reckoned.prompt_tokens(of, asked)
        assert least <= await reckoned.prompt_tokens(PLAIN, asked)


def continues(*prompts: str, **fields: Any) -> Request:
    return completions.parse(orjson.dumps({"model": "m", "prompt": list(prompts), **fields}), max_choices=8)


def embeds(*texts: str) -> Request:
    return embeddings.parse(orjson.dumps({"model": "m", "input": list(texts)}), max_choices=8)


def says(text: str, **fields: Any) -> Request:
    return request(messages=[{"role": "user", "content": text}], **fields)


async def test_a_token_is_a_byte_where_no_tokenizer_is_known() -> None:
    assert await BY_BYTES.prompt_tokens(PLAIN, says("déposé")) == 8 + CONVERSATION + MESSAGE
    assert await BY_BYTES.prompt_tokens(PLAIN, continues("ab", "é", n=3)) == 2 + 2 + 2 * PROMPT
    assert await BY_BYTES.prompt_tokens(PLAIN, says("")) > 0


async def test_a_known_tokenizer_reckons_closer_whether_at_once_or_in_a_thread(counted: Counted) -> None:
    reckoned, of, model = counted
    for length in (1, 100):
        text = ("Comment suivre mon avis ? " * length).strip()
        prompt = await reckoned.prompt_tokens(of, says(text))
        assert prompt == real(model, text) + CONVERSATION + MESSAGE
        assert prompt < await reckoned.prompt_tokens(PLAIN, says(text))


async def test_what_is_too_long_to_be_counted_is_reckoned_by_its_bytes(counted: Counted) -> None:
    text = "avis " * 110_000
    assert await counted[0].prompt_tokens(counted[1], says(text)) == len(text) + CONVERSATION + MESSAGE


async def test_a_file_that_cuts_texts_to_the_length_of_a_batch_counts_whole_ones(tmp_path: Path) -> None:
    model = vocabularies.byte_level()
    reckoned, of = reckoner(vocabularies.saved(model, tmp_path, longest=64))
    short = await reckoned.prompt_tokens(of, says("Bonjour"))
    assert short < CONVERSATION + MESSAGE + 8
    assert await reckoned.prompt_tokens(of, says("Bonjour, merci. " * 50)) > short + 100


@pytest.mark.parametrize(
    "fields",
    [
        {"tools": [TOOL]},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "avis", "schema": {"type": "object"}}}},
        {"prediction": {"type": "content", "content": "Voici mon avis, en détail." * 10}},
    ],
    ids=str,
)
async def test_schemas_count_with_the_spaces_a_template_may_write(counted: Counted, fields: dict[str, Any]) -> None:
    reckoned, of, model = counted
    (schema,) = fields.values()
    longest = orjson.dumps(schema, option=orjson.OPT_INDENT_2).decode()
    for by in (of, PLAIN):
        bare = await reckoned.prompt_tokens(by, says("Bonjour"))
        assert await reckoned.prompt_tokens(by, says("Bonjour", **fields)) >= bare + real(model, longest)


async def test_tools_have_an_allowance_and_calls_in_turns_count() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "chercher", "arguments": "x" * 500}}
    turns = [{"role": "user", "content": "Bonjour"}, {"role": "assistant", "tool_calls": [call]}]
    assert await BY_BYTES.prompt_tokens(PLAIN, request(messages=turns)) > 500 + CONVERSATION + 2 * MESSAGE
    assert await BY_BYTES.prompt_tokens(PLAIN, says("Bonjour", tools=[TOOL])) > TOOLS + CONVERSATION


async def test_each_image_counts_what_its_target_says_and_its_address_nothing() -> None:
    shown = request(messages=[{"role": "user", "content": [{"type": "text", "text": "Quoi ?"}, IMAGE, IMAGE]}])
    bare = request(messages=[{"role": "user", "content": [{"type": "text", "text": "Quoi ?"}]}])
    small = target(images=True, image_tokens=256, template_tokens=CONVERSATION)
    for of, each in ((small, 256), (PLAIN, 2880)):
        more = await BY_BYTES.prompt_tokens(of, shown) - await BY_BYTES.prompt_tokens(of, bare)
        assert 2 * each <= more < 2 * each + 10


def test_an_estimate_is_near_the_truth_however_long_the_text(counted: Counted) -> None:
    reckoned, of, model = counted
    for length in (1, 1000):
        text = "Comment suivre mon avis ? La livraison est en retard. " * length
        assert reckoned.estimate(of, says(text)) == pytest.approx(real(model, text), rel=0.02)
    assert reckoned.estimate(of, says("")) == 1
    assert reckoned.estimate(PLAIN, says("x" * 400)) == 101


@given(st.text(alphabet="ab \n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029é", max_size=60))
async def test_each_character_that_ends_a_line_is_one_token_more_by_bytes(text: str) -> None:
    breaks = sum(text.count(sign) for sign in "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029")
    empty = await BY_BYTES.prompt_tokens(PLAIN, says(""))
    found = await BY_BYTES.prompt_tokens(PLAIN, says(text))
    assert found - empty == len(text.encode()) + breaks
