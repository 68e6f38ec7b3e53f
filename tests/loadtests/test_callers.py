"""Who asks, and what, out of a file."""

import random
from collections import Counter
from pathlib import Path

import pytest

from loadtests.callers import Callers, from_file
from loadtests.login import Grant
from loadtests.refusals import OURS, Prompt, prompts

USUAL = {"streamed": 3.0, "plain": 1.0, "over_limit": 0.0, "refused": 0.0}
EXAMPLE = Path(__file__).resolve().parents[2] / "loadtests" / "tenants.example.toml"
SECRETS = {"LOAD_MAIRIE_PASSWORD": "secret", "LOAD_LYCEE_KEY": "key-2", "LOAD_NARROW_KEY": "key-3"}


def _drawn(callers: Callers, only: str | None = None) -> Counter[tuple[str, str]]:
    chance = random.Random(3)  # noqa: S311  # draws in a test
    draws = (callers.draw(chance, only) for _ in range(6000))
    return Counter((caller.name, kind) for caller, kind in draws)


def test_weights_are_shares_of_questions() -> None:
    drawn = _drawn(from_file(EXAMPLE, USUAL, SECRETS))
    assert drawn == pytest.approx(
        {
            ("mairie", "streamed"): 2250,
            ("mairie", "plain"): 750,
            ("lycée", "streamed"): 1000,
            ("lycée", "refused"): 1000,
            ("étroit", "over_limit"): 1000,
        },
        rel=0.1,
    )


def test_users_of_one_kind_are_those_whom_the_file_lets_ask_it() -> None:
    callers = from_file(EXAMPLE, USUAL, SECRETS)
    assert set(_drawn(callers, "over_limit")) == {("étroit", "over_limit")}
    assert set(_drawn(callers, "plain")) == {("mairie", "plain")}


def test_a_kind_that_nobody_was_given_is_asked_by_all(tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    file.write_text("name,key,weight\na,k1,1\nb,k2,0\n", encoding="utf-8")
    assert set(_drawn(from_file(file, USUAL, {}), "refused")) == {("a", "refused")}


def test_a_csv_has_the_same_keys(tmp_path: Path) -> None:
    file = tmp_path / "tenants.csv"
    file.write_text("name,weight,user,password,key,plain\na,2,u,p,,1\nb,1,,,k,\n", encoding="utf-8")
    callers = from_file(file, USUAL, {})
    assert _drawn(callers) == pytest.approx(
        {("a", "plain"): 4000, ("b", "streamed"): 1500, ("b", "plain"): 500}, rel=0.1
    )
    forms = []
    for only in ("plain", "streamed"):
        caller, _ = callers.draw(random.Random(0), only)  # noqa: S311
        forms.append(caller.login.token(lambda form: Grant(f"of {form['username']} {form['password']}", 900)))
    assert set(forms) <= {"of u p", "k"}
    assert "k" in forms


@pytest.mark.parametrize(
    ("toml", "sentence"),
    [
        ("", "holds no tenants: give a table [[tenants]] for each"),
        ("tenants = 3", "holds no tenants"),
        ("[[tenants]]\nkey = 'k'", "tenant 1 has no name"),
        ("[[tenants]]\nname = 'a'\nkey = 'k'\npoids = 2", "tenant 1: poids is unknown, allowed are name, weight, user"),
        ("[[tenants]]\nname = 'a'", "tenant 1 (a) needs either user and password, or key"),
        ("[[tenants]]\nname = 'a'\nkey = 'k'\nuser = 'u'\npassword = 'p'", "tenant 1 (a) needs either"),
        ("[[tenants]]\nname = 'a'\nkey_env = 'NONE'", "tenant 1 (a): key_env names $NONE, which is not set"),
        ("[[tenants]]\nname = 'a'\nkey = 12345", "tenant 1 (a): key is of type int, allowed is a text"),
        (
            "[[tenants]]\nname = 'a'\nkey = 'k'\nweight = -1",
            "tenant 1 (a): weight is -1, allowed is a number of 0 or more",
        ),
        ("[[tenants]]\nname = 'a'\nkey = 'k'\nplain = 'viel'", "tenant 1 (a): plain is 'viel', allowed is a number"),
        ("[[tenants]]\nname = 'a'\nkey = 'k'\nweight = 0", "every weight is 0"),
        ("[[", "cannot be read"),
    ],
)
def test_a_file_that_is_wrong_is_told_in_one_sentence(tmp_path: Path, toml: str, sentence: str) -> None:
    file = tmp_path / "t.toml"
    file.write_text(toml, encoding="utf-8")
    with pytest.raises(SystemExit) as told:
        from_file(file, USUAL, {})
    assert sentence in str(told.value)
    assert "12345" not in str(told.value)


def test_secrets_are_in_no_text_of_a_caller() -> None:
    caller, _ = from_file(EXAMPLE, USUAL, SECRETS).draw(random.Random(1))  # noqa: S311
    assert not any(secret in repr(caller) for secret in SECRETS.values())


def test_the_prompts_are_refusals_and_calls_for_help() -> None:
    assert {prompt.answer for prompt in prompts(OURS)} == {None, "3114"}


@pytest.mark.parametrize(
    ("toml", "sentence"),
    [
        ("", "holds no prompt"),
        ("refused = 'x'", "refused is 'x', allowed is a list of texts"),
        ("help = ['x']\nhelp_number = 3114", "help_number is 3114, allowed is a text"),
        ("[", "cannot be read as TOML"),
    ],
)
def test_prompts_that_are_wrong_are_told_in_one_sentence(tmp_path: Path, toml: str, sentence: str) -> None:
    file = tmp_path / "p.toml"
    file.write_text(toml, encoding="utf-8")
    with pytest.raises(SystemExit, match=r"^loadtests: ") as told:
        prompts(file)
    assert sentence in str(told.value)


def test_a_file_of_prompts_needs_one_of_the_two(tmp_path: Path) -> None:
    file = tmp_path / "p.toml"
    file.write_text("refused = ['x']", encoding="utf-8")
    assert prompts(file) == (Prompt("x"),)
