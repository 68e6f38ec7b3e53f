"""API keys: their form, what is stored of them, and how long a worker believes what it knows."""

import asyncio
import re
import stat
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.ext.asyncio import AsyncEngine

from auth.credentials import Sealer, new_key, sealer_from_file, well_formed
from auth.database import engine
from auth.errors import BadConfiguration, InvalidToken, StoreUnavailable
from auth.keys import FRESH_S, ApiKeys, KeyStore
from auth.principal import Principal
from auth.rights import Grant
from auth.store import UserStore
from auth.tenants import TenantStore
from tests.auth.forge import NOW
from tests.auth.server import SEALER

CHAT = Grant(frozenset({"chat", "models"}))


class Clock:
    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class Breakable(KeyStore):
    """A store that counts questions, and whose database can go away."""

    asked, away = 0, False

    async def holder(self, sealed: str):  # type: ignore[no-untyped-def]
        self.asked += 1
        await asyncio.sleep(0)
        if self.away:
            raise StoreUnavailable("The user database does not answer.")
        return await super().holder(sealed)


@pytest.fixture
async def opened(database_url: str) -> AsyncIterator[AsyncEngine]:
    made = engine(database_url)
    await UserStore(made).create_schema()
    yield made
    await made.dispose()


@pytest.fixture
def store(opened: AsyncEngine) -> Breakable:
    return Breakable(opened, SEALER, lambda: NOW)


@pytest.fixture
def clock() -> Clock:
    return Clock(1000.0)


@pytest.fixture
def checked(store: Breakable, clock: Clock) -> ApiKeys:
    return ApiKeys(store, SEALER, stale_s=60, now=lambda: NOW, clock=clock)


async def refused(checked: ApiKeys, key: str) -> bool:
    try:
        await checked.verify(key)
    except InvalidToken:
        return True
    return False


def test_a_key_is_letters_and_digits_after_its_prefix_and_no_two_are_alike() -> None:
    keys = {new_key() for _ in range(1000)}
    assert len(keys) == 1000
    assert all(re.fullmatch(r"psl_[0-9A-Za-z]{49}", key) and well_formed(key) for key in keys)


@given(st.data())
def test_a_typing_error_is_found_without_asking_anybody(data: st.DataObject) -> None:
    key = new_key()
    place = data.draw(st.integers(4, len(key) - 1))
    letter = data.draw(st.characters(codec="ascii").filter(lambda c: c != key[place]))
    assert not well_formed(key[:place] + letter + key[place + 1 :])
    swapped = key[: place - 1] + key[place] + key[place - 1] + key[place + 1 :]
    assert swapped == key or not well_formed(swapped)


@given(st.text())
def test_no_text_is_a_key_by_chance_and_none_raises(text: str) -> None:
    assert not well_formed(text)
    assert not well_formed("psl_" + text)


async def test_what_is_stored_is_neither_the_key_nor_a_plain_hash_of_it(store: KeyStore, opened: AsyncEngine) -> None:
    _, secret = await store.add("ci", CHAT, tenant="acme")
    async with opened.connect() as connection:
        rows = str((await connection.exec_driver_sql("SELECT * FROM api_keys")).all())
        rows += str((await connection.exec_driver_sql("SELECT * FROM audit")).all())
    assert SEALER.seal(secret) in rows
    assert secret[10:] not in rows
    other = Sealer(b"another secret of thirty-two bytes")
    assert other.seal(secret) != SEALER.seal(secret)


async def test_a_key_says_who_its_holder_is(store: Breakable, checked: ApiKeys) -> None:
    rights = replace(CHAT, may_leave=True, requests_per_minute=9, models=frozenset({"falcon"}))
    key, secret = await store.add("ci", rights, tenant="acme")
    assert await checked.verify(secret) == Principal(
        subject=key.id,
        tenant="acme",
        scopes=frozenset({"chat", "models"}),
        kind="key",
        may_leave=True,
        key_requests_per_minute=9,
        models=frozenset({"falcon"}),
        key=key.id,
    )


async def test_a_user_s_key_can_do_no_more_than_the_user_can_now(
    opened: AsyncEngine, store: Breakable, checked: ApiKeys, clock: Clock
) -> None:
    users = UserStore(opened)
    alice = await users.add("alice", "hash", tenant="acme", scopes=["chat", "models"], requests_per_minute=4)
    rights = replace(CHAT, may_leave=True)
    _, secret = await store.add("ci", rights, tenant="acme", owner=alice.id)
    holder = await checked.verify(secret)
    assert (holder.subject, holder.may_leave, holder.requests_per_minute) == (alice.id, False, 4)
    await users.change(alice.id, scopes={"models", "usage"})
    clock.now += FRESH_S + 0.1
    assert (await checked.verify(secret)).scopes == {"models"}
    await users.disable("alice")
    clock.now += FRESH_S + 0.1
    assert await refused(checked, secret)


async def test_a_key_of_a_closed_tenant_is_refused(
    opened: AsyncEngine, store: Breakable, checked: ApiKeys, clock: Clock
) -> None:
    _, secret = await store.add("ci", CHAT, tenant="acme")
    assert not await refused(checked, secret)
    await TenantStore(opened).change("acme", disabled=True)
    clock.now += FRESH_S + 0.1
    assert await refused(checked, secret)


async def test_a_revoked_key_is_refused_by_every_worker_within_five_seconds(
    store: Breakable, checked: ApiKeys, clock: Clock
) -> None:
    key, secret = await store.add("ci", CHAT, tenant="acme")
    assert not await refused(checked, secret)
    await store.revoke(key.id)
    clock.now += 5
    assert await refused(checked, secret)


async def test_a_key_ends_at_its_time_to_the_second_and_not_at_the_next_question(store: Breakable) -> None:
    rights = replace(CHAT, expires_at=datetime.fromtimestamp(NOW + 1, UTC))
    _, secret = await store.add("ci", rights, tenant="acme")
    wall = Clock(NOW)
    checked = ApiKeys(store, SEALER, now=wall, clock=lambda: 0.0)
    assert not await refused(checked, secret)
    wall.now += 1
    assert await refused(checked, secret)
    assert store.asked == 1


async def test_the_database_is_asked_once_in_three_seconds_however_many_ask(
    store: Breakable, checked: ApiKeys, clock: Clock
) -> None:
    _, secret = await store.add("ci", CHAT, tenant="acme")
    await asyncio.gather(*(checked.verify(secret) for _ in range(100)))
    await checked.verify(secret)
    assert store.asked == 1
    clock.now += FRESH_S + 0.1
    await asyncio.gather(*(checked.verify(secret) for _ in range(100)))
    assert store.asked == 2


async def test_a_caller_who_leaves_does_not_take_the_question_from_the_others(
    store: Breakable, checked: ApiKeys
) -> None:
    _, secret = await store.add("ci", CHAT, tenant="acme")
    first, second = (asyncio.create_task(checked.verify(secret)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    assert (await second).tenant == "acme"


async def test_an_unknown_key_is_remembered_as_one(store: Breakable, checked: ApiKeys) -> None:
    key = new_key()
    assert [await refused(checked, key) for _ in range(3)] == [True] * 3
    assert store.asked == 1


async def test_while_the_database_is_away_known_keys_go_on_for_a_while_and_then_nobody_can_tell(
    store: Breakable, checked: ApiKeys, clock: Clock
) -> None:
    _, known = await store.add("ci", CHAT, tenant="acme")
    _, unknown = await store.add("new", CHAT, tenant="acme")
    await checked.verify(known)
    store.away = True
    clock.now += 60
    assert (await checked.verify(known)).tenant == "acme"
    with pytest.raises(StoreUnavailable) as answer:
        await checked.verify(unknown)
    assert (answer.value.status, "Retry-After" in answer.value.headers) == (503, True)
    clock.now += 0.1
    with pytest.raises(StoreUnavailable):
        await checked.verify(known)
    store.away = False
    with pytest.raises(StoreUnavailable):  # for a second nobody asks again
        await checked.verify(known)
    clock.now += 1
    assert (await checked.verify(known)).tenant == "acme"


async def test_the_last_use_is_written_down_later_and_not_lost_while_the_database_is_away(
    store: Breakable, checked: ApiKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, secret = await store.add("ci", CHAT, tenant="acme")
    await checked.verify(secret)

    async def away(_: object) -> None:
        raise StoreUnavailable("The user database does not answer.")

    with monkeypatch.context() as patched:
        patched.setattr(store, "used", away)
        with pytest.raises(StoreUnavailable):
            await checked.flush()
    assert (await store.get(key.id)).last_used_at is None
    await checked.flush()
    assert (await store.get(key.id)).last_used_at == datetime.fromtimestamp(NOW, UTC)


async def test_no_more_keys_are_remembered_than_there_may_be(store: Breakable, clock: Clock) -> None:
    checked = ApiKeys(store, SEALER, remember=2, now=lambda: NOW, clock=clock)
    secrets = [(await store.add(str(number), CHAT, tenant="acme"))[1] for number in range(3)]
    for secret in [*secrets, secrets[2], secrets[0]]:
        await checked.verify(secret)
    assert store.asked == 4


def test_the_first_start_makes_a_secret_that_only_its_owner_can_read(tmp_path: Path) -> None:
    path = tmp_path / "state" / "api-key-secret"
    sealed = sealer_from_file(path).seal("x")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert sealer_from_file(path).seal("x") == sealed
    path.chmod(0o644)
    with pytest.raises(BadConfiguration, match="chmod 600"):
        sealer_from_file(path)


def test_a_short_secret_stops_the_start_and_none_is_ever_shown() -> None:
    with pytest.raises(BadConfiguration, match="holds 5 bytes"):
        Sealer(b"short")
    assert "tests" not in repr(SEALER)
