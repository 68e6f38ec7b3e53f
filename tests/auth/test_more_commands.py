"""The commands for tenants, keys, clients, signing keys and the audit, as an operator runs them."""

import argparse
import io
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from auth.commands import Installation, add_commands
from auth.credentials import well_formed
from auth.database import engine
from auth.errors import InvalidToken
from auth.keys import ApiKeys, KeyStore
from auth.principal import Principal
from auth.signing import KeyFolder
from tests.auth.server import SEALER
from tests.auth.test_commands import Ended

Run = Callable[..., Ended]


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/users.db"


@pytest.fixture
def run(url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    parser = argparse.ArgumentParser()
    installation = Installation(url, lambda: SEALER, tmp_path / "signing-keys")
    add_commands(parser.add_subparsers(required=True), lambda _args: installation)

    def run(*words: str) -> Ended:
        capsys.readouterr()
        try:
            args = parser.parse_args(words)
            code = args.func(args)
        except SystemExit as left:
            code = left.code
        return Ended(code, *capsys.readouterr())

    return run


def holder(url: str, key: str) -> Principal | None:
    async def verify() -> Principal | None:
        opened = engine(url)
        try:
            return await ApiKeys(KeyStore(opened, SEALER), SEALER).verify(key)
        except InvalidToken:
            return None
        finally:
            await opened.dispose()

    return anyio.run(verify)


def rows(ended: Ended) -> list[list[str]]:
    assert ended.code == 0, ended.err
    return [line.split("\t") for line in ended.out.splitlines()]


def test_a_key_is_printed_once_works_is_listed_and_can_be_revoked(run: Run, url: str) -> None:
    made = run("keys", "add", "ci", "--tenant", "acme", "--model", "falcon", "--expires-in", "90", "--may-leave")
    key = made.out.strip()
    assert made.out.count("\n") == 1
    assert well_formed(key)
    found = holder(url, key)
    assert found is not None
    assert (found.tenant, sorted(found.scopes), found.may_leave) == ("acme", ["chat", "models", "usage"], True)
    assert found.models == frozenset({"falcon"})
    (row,) = rows(run("keys", "list"))
    assert row[1:7] == [key[:10], "ci", "acme", "-", "chat,models,usage", "active"]
    assert run("keys", "revoke", row[0]).code == 0
    assert holder(url, key) is None
    assert rows(run("keys", "list"))[0][6] == "revoked"


def test_a_key_of_a_user_belongs_to_the_user_s_tenant(run: Run, url: str) -> None:
    run("users", "add", "alice", "--tenant", "acme", "--generate")
    key = run("keys", "add", "sdk", "--user", "ALICE").out.strip()
    found = holder(url, key)
    assert found is not None
    assert found.tenant == "acme"
    run("users", "disable", "alice")
    assert holder(url, key) is None


@pytest.mark.parametrize("spoil", [False, True])
def test_a_typing_error_in_a_key_is_told_without_a_database(
    run: Run, monkeypatch: pytest.MonkeyPatch, spoil: bool
) -> None:
    key = run("keys", "add", "ci").out.strip()
    spoilt = key[:-1] + ("A" if key[-1] != "A" else "B")
    monkeypatch.setattr("sys.stdin", io.StringIO((spoilt if spoil else key) + "\n"))
    assert run("keys", "check").code == int(spoil)


def test_a_client_is_made_listed_locked_out_and_given_another_secret(run: Run) -> None:
    made = run("clients", "add", "rapports", "--tenant", "acme", "--scope", "chat")
    assert made.out.startswith("pss_")
    (row,) = rows(run("clients", "list", "--tenant", "acme"))
    assert row[1:5] == ["rapports", "acme", "chat", "active"]
    assert run("clients", "disable", row[0]).code == 0
    assert rows(run("clients", "list"))[0][4] == "disabled"
    assert run("clients", "enable", row[0]).code == 0
    assert run("clients", "secret", row[0]).out.startswith("pss_")
    assert rows(run("clients", "list", "--tenant", "other")) == []


def test_tenants_are_added_listed_and_closed_but_never_the_house(run: Run) -> None:
    assert run("tenants", "add", "acme").code == 0
    assert run("tenants", "disable", "acme").code == 0
    assert [row[:2] for row in rows(run("tenants", "list"))] == [
        ["acme", "disabled"],
        ["default", "active"],
    ]
    ended = run("users", "add", "alice", "--tenant", "acme", "--generate")
    assert (ended.code, ended.err) == (1, "The tenant 'acme' is disabled: enable it first.\n")
    assert run("tenants", "enable", "acme").code == 0
    assert run("users", "add", "alice", "--tenant", "acme", "--generate").code == 0
    assert run("tenants", "disable", "default").code == 1


def test_the_rights_of_a_user_can_be_changed(run: Run) -> None:
    run("users", "add", "alice", "--tenant", "acme", "--generate")
    assert run("users", "change", "alice", "--role", "operator", "--may-leave").code == 0
    (row,) = rows(run("users", "list", "--tenant", "acme"))
    assert row[2:4] == ["operator", "chat,keys,models,operate,usage"]
    assert run("users", "change", "alice", "--scope", "chat").code == 0
    assert rows(run("users", "list"))[0][3] == "chat"


def test_an_administrator_of_the_house_is_one_of_every_tenant_and_any_other_is_not(run: Run) -> None:
    run("users", "add", "root", "--role", "admin", "--generate")
    run("users", "add", "chef", "--role", "admin", "--tenant", "acme", "--generate")
    scopes = {row[0]: row[3].split(",") for row in rows(run("users", "list"))}
    assert ("tenants" in scopes["root"], "tenants" in scopes["chef"]) == (True, False)


def test_signing_keys_rotate_and_one_that_is_not_safe_is_removed(run: Run, tmp_path: Path) -> None:
    first = KeyFolder(tmp_path / "signing-keys").keys.newest.kid
    assert run("signing-keys", "rotate").code == 0
    listed = rows(run("signing-keys", "list"))
    assert [(row[0], row[3]) for row in listed] == [("0001", "signs"), ("0002", "published, signs soon")]
    assert listed[0][1] == first
    assert run("signing-keys", "rotate", "--now").code == 0
    assert [row[3] for row in rows(run("signing-keys", "list"))] == ["verifies", "verifies", "signs"]
    assert run("signing-keys", "remove", "0001").code == 0
    assert first not in run("signing-keys", "list").out
    actions = [row[3] for row in rows(run("audit", "list"))]
    assert actions == ["signing_key.removed", "signing_key.added", "signing_key.added"]


def test_every_change_is_in_the_audit_with_who_and_what_and_no_secret(run: Run) -> None:
    secrets = [
        run("users", "add", "alice", "--tenant", "acme", "--generate").out.strip(),
        run("users", "password", "alice", "--generate").out.strip(),
        run("keys", "add", "ci", "--tenant", "acme").out.strip(),
        run("clients", "add", "rapports", "--tenant", "acme").out.strip(),
    ]
    run("users", "disable", "alice")
    run("tenants", "disable", "acme")
    audit = run("audit", "list", "--tenant", "acme")
    assert [row[3] for row in reversed(rows(audit))] == [
        *("tenant.added", "user.added", "user.password", "key.added", "client.added", "user.changed", "tenant.changed"),
    ]
    assert {row[1].startswith("command of ") for row in rows(audit)} == {True}
    assert not [secret for secret in secrets if secret in audit.out or secret[10:] in audit.out]
    assert len(rows(run("audit", "list", "--limit", "2"))) == 2


@pytest.mark.parametrize("days", ["0", "36501", "99999999", "x"])
def test_a_key_lasts_from_a_day_to_a_century(run: Run, days: str) -> None:
    assert run("keys", "add", "ci", "--expires-in", days).code == 2


@pytest.mark.parametrize(
    "words",
    [
        ["keys", "revoke", "nothing"],
        ["keys", "add", "ci", "--user", "nobody"],
        ["clients", "disable", "nothing"],
        ["tenants", "disable", "nothing"],
        ["signing-keys", "remove", "nothing"],
        ["users", "change", "nobody", "--role", "admin"],
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_1(run: Run, words: list[str]) -> None:
    ended = run(*words)
    assert (ended.code, ended.out, ended.err.count("\n")) == (1, "", 1)
