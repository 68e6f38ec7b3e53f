"""Steering never stands in the way of French: no token that French needs is made less likely."""

import re
import string
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

from gateway import steering
from gateway.guardrails.language import Detector, Verdict
from gateway.steering import english_tokens, french_words, instructed, logit_bias, opened
from gateway.tokenizer import load
from serving import embedded

USER = {"role": "user", "content": "Comment suivre mon avis ?"}
ENGLISH = "the The These and that which would because they with have is to in on or for of not are You".split()
# Everyday sentences with words that begin as English ones do; none of their words was looked up when the tokens were chosen.
FRENCH = """
Votre retour est important pour nous : il nous aide à améliorer la plateforme, et nous le lirons dans les meilleurs délais.
Onze ouvriers italiens ont isolé toute la toiture sans abîmer la terrasse.
Attention, le thermomètre affiche trente degrés à l'ombre ; buvez beaucoup et restez à l'abri.
André habite Andorre, Didier préfère Mayotte, et William attend Moreau devant le théâtre.
Hier, l'hésitation du ministre à propos de la notation a frappé les observateurs.
Honnêtement, l'offre aboutira par hasard, ou bien pas du tout : l'idée est intolérable.
Où que tu ailles, emporte de l'eau, une carte et ton téléphone.
The, c'est ainsi que certains écrivent « thé » sur un clavier sans accents.
"""


def byte_level() -> Tokenizer:
    """A vocabulary of bytes and English words, written as Falcon and Llama 3 write theirs."""
    made = Tokenizer(_unigram("Ġ", pre_tokenizers.ByteLevel.alphabet()))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return made


def spaces_as_letters() -> Tokenizer:
    """The same as Llama 2 and Gemma write theirs."""
    made = Tokenizer(_unigram("▁", sorted(set("▁".join(french_words()) + string.printable + "«»’éèê"))))
    made.normalizer = normalizers.Replace(" ", "▁")
    made.pre_tokenizer = pre_tokenizers.Split(Regex("▁"), "merged_with_next")
    return made


def _unigram(space: str, letters: list[str]) -> models.Unigram:
    # A whole word is always cheaper than its letters: what can be written with one is.
    whole = [space * spaces + word + end for word in ENGLISH for spaces in (0, 1) for end in ("", "quelque")]
    pieces = dict.fromkeys([*letters, *whole], -9.0)
    return models.Unigram([("<unk>", -99.0), *pieces.items()], unk_id=0)


TOKENIZERS = [pytest.param(byte_level(), id="byte level"), pytest.param(spaces_as_letters(), id="spaces as letters")]


def words(tokenizer: Tokenizer, tokens: list[int]) -> set[str]:
    return {re.sub("[Ġ▁]", " ", tokenizer.id_to_token(token) or "") for token in tokens}


@pytest.mark.parametrize("tokenizer", TOKENIZERS)
def test_english_function_words_are_found_whole_at_the_beginning_of_a_word(tokenizer: Tokenizer) -> None:
    found = words(tokenizer, english_tokens(tokenizer))
    assert {" the", " and", " that", " which", " would", " because", " they", " with", " have"} <= found
    assert {"The", "These", " The"} <= found
    assert "You" not in found  # YouTube is written with it
    assert {word.strip().lower() for word in found} <= set(steering.ENGLISH_WORDS)
    assert not {word for word in found if word.islower() and not word.startswith(" ")}


@pytest.mark.parametrize("word", "is to in on or for of not are the and".split())
@pytest.mark.parametrize("tokenizer", TOKENIZERS)
def test_a_word_that_a_french_one_begins_with_is_left_out_although_that_has_a_token_of_its_own(
    tokenizer: Tokenizer, word: str
) -> None:
    assert f" {word}" in words(tokenizer, english_tokens(tokenizer, ["oui"]))
    assert len(tokenizer.encode(f" {word}quelque", add_special_tokens=False).ids) == 1
    assert f" {word}" not in words(tokenizer, english_tokens(tokenizer, [f"{word}quelque"]))


@pytest.mark.parametrize("tokenizer", TOKENIZERS)
def test_the_shipped_words_leave_out_what_begins_french(tokenizer: Tokenizer) -> None:
    found = {word.strip().lower() for word in words(tokenizer, english_tokens(tokenizer))}
    assert not found & set("is to in on a me or an for of not as at be do no so but can all her his our has".split())


def test_a_token_that_french_is_written_with_is_left_out_although_no_word_begins_so() -> None:
    tokenizer = byte_level()
    the = tokenizer.token_to_id("Ġthe")
    assert the in english_tokens(tokenizer, ["oui"])
    assert the not in english_tokens(tokenizer, ["faire the"])


@pytest.mark.parametrize("tokenizer", TOKENIZERS)
def test_no_token_of_a_listed_french_word_is_found_in_any_of_its_forms(tokenizer: Tokenizer) -> None:
    _spares_french(tokenizer)


def test_there_are_several_hundred_french_words_and_none_twice() -> None:
    found = french_words()
    assert len(found) == len(set(found)) > 800


@pytest.mark.vllm
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", ["smollm2-135m-instruct", "gemma-3-270m"])
def test_the_real_tokenizers_spare_french_they_were_not_chosen_by(name: str, vllm_python: Path) -> None:
    tokenizer = load(embedded.prepare(name, vllm_python, embedded.cache_folder(), print) / "tokenizer.json")
    tokens = set(english_tokens(tokenizer))
    assert len(tokens) > 150
    assert {" the", " and", " that", " with", "The", " because"} <= words(tokenizer, sorted(tokens))
    for line in FRENCH.strip().splitlines()[:-1]:
        used = tokens & set(tokenizer.encode(line, add_special_tokens=False).ids)
        assert words(tokenizer, sorted(used)) == set()
    assert tokens & set(tokenizer.encode(FRENCH.strip().splitlines()[-1], add_special_tokens=False).ids)  # it can fail
    _spares_french(tokenizer)


def _spares_french(tokenizer: Tokenizer) -> None:
    tokens = set(english_tokens(tokenizer))
    for word in french_words():
        for form in (word, f" {word}", f" {word.capitalize()}", f"l'{word}", f"« {word} »", f"\n{word.capitalize()}"):
            assert not tokens & set(tokenizer.encode(form, add_special_tokens=False).ids), form


@pytest.mark.parametrize(
    ("tokens", "bias", "expected"), [([], -8.0, {}), ([5], -8.0, {"5": -8.0}), ([5, 70], -2.5, {"5": -2.5, "70": -2.5})]
)
def test_the_bias_is_openais_map_from_token_to_number(
    tokens: list[int], bias: float, expected: dict[str, float]
) -> None:
    assert logit_bias(tokens, bias) == expected


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([USER], [{"role": "system", "content": "I"}, USER]),
        ([{"role": "system", "content": "S"}, USER], [{"role": "system", "content": "S\n\nI"}, USER]),
        ([{"role": "developer", "content": "S"}, USER], [{"role": "developer", "content": "S\n\nI"}, USER]),
        (
            [{"role": "system", "content": [{"type": "text", "text": "S"}]}, USER],
            [{"role": "system", "content": "I"}, {"role": "system", "content": [{"type": "text", "text": "S"}]}, USER],
        ),
    ],
)
def test_an_instruction_joins_the_system_message(
    messages: list[dict[str, Any]], expected: list[dict[str, Any]]
) -> None:
    assert instructed(messages, "I") == expected


def test_an_opening_is_a_turn_to_go_on_from() -> None:
    assert opened([USER]) == {
        "messages": [USER, {"role": "assistant", "content": steering.OPENING}],
        "add_generation_prompt": False,
        "continue_final_message": True,
    }


@pytest.mark.parametrize("text", [steering.INSTRUCTION, steering.FIRM_INSTRUCTION, steering.OPENING])
def test_what_steers_towards_french_is_french(text: str) -> None:
    assert Detector().judge(text) is Verdict.FRENCH
