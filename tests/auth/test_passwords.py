import asyncio
import time

import pytest
from hypothesis import given
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


@pytest.mark.parametrize("password", ["aaaaaaaaaaaa", "éééééééééééé", "😀" * 12, "a" * 1024, " " * 12])
def test_length_is_all_that_is_asked_counted_in_characters(password: str) -> None:
    check(password)


@given(st.text())
def test_preparing_twice_is_preparing_once(password: str) -> None:
    once = prepared(password)
    assert once is None or prepared(once.decode()) == once
