from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from auth.database import engine
from auth.errors import InvalidGrant
from auth.login import Login
from auth.passwords import CHEAPEST, Cost, Passwords, Verdict
from auth.store import UserStore

PASSWORD = "un bon mot de passe"


class Counted(Passwords):
    """Passwords that count how often they were asked to verify one."""

    asked = 0

    async def verify(self, password: str, stored: str | None) -> Verdict:
        self.asked += 1
        return await super().verify(password, stored)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[UserStore]:
    opened = engine(f"sqlite:///{tmp_path}/users.db")
    store = UserStore(opened)
    await store.create_schema()
    await store.add("alice", await Passwords(CHEAPEST).hash(PASSWORD))
    await store.add("gone", await Passwords(CHEAPEST).hash(PASSWORD))
    await store.disable("gone")
    yield store
    await opened.dispose()


async def test_the_right_password_gives_the_user_by_any_spelling_of_the_name(store: UserStore) -> None:
    assert (await Login(store, Passwords(CHEAPEST)).authenticate("ALICE", PASSWORD)).username == "alice"


@pytest.mark.parametrize(
    ("username", "password"),
    [("alice", "faux"), ("nobody", PASSWORD), ("gone", PASSWORD), ("", PASSWORD), ("a\0b", PASSWORD), ("alice", "")],
)
async def test_every_failure_is_the_same_error_after_the_same_work(
    store: UserStore, username: str, password: str
) -> None:
    passwords = Counted(CHEAPEST)
    with pytest.raises(InvalidGrant, match=r"^The user name or the password is wrong\.$"):
        await Login(store, passwords).authenticate(username, password)
    assert passwords.asked == 1


async def test_a_login_replaces_a_hash_that_was_made_at_another_cost(store: UserStore) -> None:
    dearer = Login(store, Passwords(Cost(memory_kib=16, rounds=2, lanes=1)))
    await dearer.authenticate("alice", PASSWORD)
    user = await store.by_name("alice")
    assert user is not None
    assert "$m=16,t=2,p=1$" in user.password_hash
    await dearer.authenticate("alice", PASSWORD)
    assert await store.by_name("alice") == user


async def test_a_wrong_password_replaces_nothing(store: UserStore) -> None:
    before = await store.by_name("alice")
    with pytest.raises(InvalidGrant):
        await Login(store, Passwords(Cost(memory_kib=16, rounds=2, lanes=1))).authenticate("alice", "faux")
    assert await store.by_name("alice") == before
