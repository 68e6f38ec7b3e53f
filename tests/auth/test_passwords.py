import asyncio
import contextlib
import secrets
import subprocess
import sys
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from auth.errors import WeakPassword
from auth.password_rule import check, prepared
from auth.passwords import CHEAPEST, OWASP, Passwords


async def test_a_password_verifies_against_its_own_hash_alone() -> None:
    passwords = Passwords(CHEAPEST)
    stored = await passwords.hash("un bon mot de passe")
    assert stored.startswith("$argon2id$")
    assert (await passwords.verify("un bon mot de passe", stored)).holds
    assert not (await passwords.verify("un bon mot de passé", stored)).holds
    assert stored != await passwords.hash("un bon mot de passe")


async def test_the_default_cost_is_the_one_owasp_names() -> None:
    assert "$m=19456,t=2,p=1$" in await Passwords().hash("un bon mot de passe")


async def test_any_keyboard_that_gives_the_same_text_logs_in() -> None:
    passwords = Passwords(CHEAPEST)
    stored = await passwords.hash("cafe\u0301 \ufb01ne")  # e + combining accent, ligature fi
    assert (await passwords.verify("caf\u00e9 fine", stored)).holds


async def test_a_hash_made_at_another_cost_is_replaced_only_when_the_password_holds() -> None:
    old, new = Passwords(CHEAPEST), Passwords(OWASP)
    stored = await old.hash("un bon mot de passe")
    assert (await new.verify("autre mot de passe", stored)).replacement is None
    replacement = (await new.verify("un bon mot de passe", stored)).replacement
    assert replacement is not None
    assert await new.verify("un bon mot de passe", replacement) == (True, None)


@pytest.mark.parametrize("password", ["a" * 1025, "é" * 513, "\ufdfa" * 100, "\ud800"])
async def test_a_password_too_long_or_not_text_neither_hashes_nor_verifies(password: str) -> None:
    passwords = Passwords(CHEAPEST)
    assert not (await passwords.verify(password, await passwords.hash("x"))).holds
    with pytest.raises(WeakPassword):
        await passwords.hash(password)


async def test_an_unknown_user_costs_as_much_as_a_wrong_password() -> None:
    passwords = Passwords(OWASP)
    stored = await passwords.hash("un bon mot de passe")

    async def cpu_s(against: str | None) -> float:
        before = time.process_time()
        for _ in range(3):
            assert not (await passwords.verify("faux", against)).holds
        return time.process_time() - before

    assert await cpu_s(None) > 0.3 * await cpu_s(stored)


async def test_the_event_loop_goes_on_while_passwords_are_hashed() -> None:
    passwords = Passwords(OWASP, at_once=1)
    hashing = asyncio.gather(*(passwords.hash("un bon mot de passe") for _ in range(3)))
    turns = 0
    while not hashing.done():
        await asyncio.sleep(0)
        turns += 1
    await hashing
    assert turns > 10


@pytest.mark.parametrize(("password", "minimum"), [("", 1), ("onze lettre", 12), ("\ufb03" * 3, 10), ("a" * 1025, 12)])
def test_a_new_password_too_short_or_too_long_is_refused(password: str, minimum: int) -> None:
    with pytest.raises(WeakPassword):
        check(password, minimum)


@pytest.mark.parametrize(
    "password",
    [
        "motdepasse-9",
        "motdepasse-8",
        "motdepasse-admin",
        "Marée-haute-9",
        "un bon mot de passe",
        "une phrase de passe",
        "correct horse battery staple",
        "ni majuscule ni chiffre",
        "😀🐘🚲🌧🍋🎻🧦🛶🌵🧀🔭🪁",
        "قهوة ساخنة كل صباح",
        secrets.token_urlsafe(18),
        "le chat dort " + "et la pluie tombe sur le toit " * 30,
    ],
)
def test_a_phrase_is_a_password_whatever_it_is_composed_of(password: str) -> None:
    check(password)
    check(password, username="alice.martin")


@pytest.mark.parametrize(
    ("password", "minimum", "reason"),
    [
        ("1q2w3e4r5t6y", 12, "leaked"),
        ("1Q2W3E4R5T6Y", 12, "leaked"),
        ("leavemealone", 12, "leaked"),
        ("\uff4ceavemealone", 12, "leaked"),  # a full-width l: NFKC comes first
        ("unfortunately", 12, "leaked"),
        ("Breckenridge", 12, "leaked"),
        ("sunshine", 8, "leaked"),
        ("Passerelle-2026", 12, "name of this service"),
        ("passerellepasserelle", 12, "name of this service"),
        ("aaaaaaaaaaaa", 12, "pattern"),
        ("éééééééééééé", 12, "pattern"),
        ("😀" * 12, 12, "pattern"),
        (" " * 12, 12, "pattern"),
        ("a" * 1024, 12, "pattern"),
        ("passwordpassword", 12, "pattern"),
        ("p@ssw0rdp@ssw0rd", 12, "pattern"),
        ("abcdefghijklmnop", 12, "pattern"),
        ("abcabcabcabcabc", 12, "pattern"),
        ("zxcvbnmzxcvbnm", 12, "pattern"),
        ("", 0, "at least 1 char"),
    ],
)
def test_what_guessers_try_first_is_refused_with_the_reason_alone(password: str, minimum: int, reason: str) -> None:
    with pytest.raises(WeakPassword, match=reason) as refusal:
        check(password, minimum)
    assert not password or password not in str(refusal.value)


@pytest.mark.parametrize(
    ("password", "username"),
    [
        ("alice.martin", "alice.martin"),
        ("Alice-Martin-1987", "alice.martin"),
        ("martin alice 06", "alice.martin"),
        ("alice@passerelle", "alice"),
        ("ÉlodieÉlodieÉlodie", "e\u0301lodie"),
        ("48151623421@@@a", "a"),
        ("passerellepasserelle" * 40 + "passerelle", "passerellepasserelle"),
    ],
)
def test_a_name_with_decoration_is_refused(password: str, username: str) -> None:
    with pytest.raises(WeakPassword, match="user's name") as refusal:
        check(password, username=username)
    assert password not in str(refusal.value)


@pytest.mark.parametrize("username", ["", "1234", "bob", "alice", "mot-de-passe", "\ud800"])
def test_a_name_inside_a_phrase_is_no_reason(username: str) -> None:
    check("alice et la passerelle rouge", username=username)
    check("4815-1623-4207-9961", username=username)


def test_the_first_72_characters_are_weighed_since_the_time_grows_with_the_square() -> None:
    tail = "velours-cactus-marmite"
    check("a" * 60 + tail)
    with pytest.raises(WeakPassword, match="pattern"):
        check("a" * 72 + tail)


@given(st.text(max_size=100) | st.text("0123٤²½/-. \n\r\u2028aİß", max_size=100), st.text(max_size=10))
@example("mot de 2026\n passe", "")
def test_any_text_passes_or_is_weak(password: str, username: str) -> None:
    with contextlib.suppress(WeakPassword):
        check(password, 1, username=username)


@given(st.text())
def test_preparing_twice_is_preparing_once(password: str) -> None:
    once = prepared(password)
    assert once is None or prepared(once.decode()) == once


def test_the_word_lists_are_read_only_where_a_password_is_chosen() -> None:
    imported = "import sys, auth.password_rule; sys.exit('zxcvbn' in sys.modules)"
    subprocess.run([sys.executable, "-c", imported], check=True)
