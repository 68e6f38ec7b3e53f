import argparse
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import anyio
import pytest

from auth.commands import Installation, add_commands
from auth.database import engine
from auth.errors import InvalidGrant
from auth.login import Login
from auth.passwords import Passwords
from auth.store import User, UserStore
from tests.auth.server import SEALER

PASSWORD = "un bon mot de passe"
PROGRAM = """
import argparse, sys
from auth.commands import add_commands
parser = argparse.ArgumentParser()
from auth.commands import Installation
from auth.credentials import Sealer
add_commands(
    parser.add_subparsers(required=True), lambda args: Installation(sys.argv[1], lambda: Sealer(b"s" * 32), None)
)
args = parser.parse_args(["users", *sys.argv[2:]])
sys.exit(args.func(args))
"""


@dataclass
class Ended:
    code: int
    out: str
    err: str


Users = Callable[..., Ended]


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/users.db"


@pytest.fixture
def users(url: str, capsys: pytest.CaptureFixture[str]) -> Users:
    """Runs `users …` here, or in a process of its own when there is something on standard input."""
    parser = argparse.ArgumentParser()
    add_commands(parser.add_subparsers(required=True), lambda _args: Installation(url, lambda: SEALER, None))

    def run(*words: str, stdin: str | None = None) -> Ended:
        if stdin is not None:
            command = [sys.executable, "-c", PROGRAM, url, *words]
            ended = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False, timeout=60)
            return Ended(ended.returncode, ended.stdout, ended.stderr)
        capsys.readouterr()
        try:
            args = parser.parse_args(["users", *words])
            code = args.func(args)
        except SystemExit as left:
            code = left.code
        return Ended(code, *capsys.readouterr())

    return run


def login(url: str, username: str, password: str) -> User:
    async def authenticate() -> User:
        opened = engine(url)
        try:
            return await Login(UserStore(opened), Passwords()).authenticate(username, password)
        finally:
            await opened.dispose()

    return anyio.run(authenticate)


def test_a_user_added_with_a_password_from_standard_input_can_log_in(users: Users, url: str) -> None:
    assert users("add", "Alice", "--tenant", "acme", "--password-stdin", stdin=PASSWORD + "\n").code == 0
    user = login(url, "alice", PASSWORD)
    assert (user.tenant, user.role, sorted(user.scopes)) == ("acme", "member", ["chat", "keys", "models", "usage"])


def test_scopes_and_rights_can_be_chosen(users: Users, url: str) -> None:
    words = ["--scope", "chat", "--scope", "models", "--may-leave", "--requests-per-minute", "5"]
    assert users("add", "alice", *words, "--password-stdin", stdin=PASSWORD).code == 0
    user = login(url, "alice", PASSWORD)
    assert (sorted(user.scopes), user.may_leave, user.requests_per_minute) == (["chat", "models"], True, 5)


def test_a_generated_password_stands_alone_on_standard_output(users: Users, url: str) -> None:
    shown = users("add", "alice", "--role", "admin", "--generate").out
    assert shown.count("\n") == 1
    assert "admin" in login(url, "alice", shown.strip()).scopes


def test_a_replaced_password_is_the_only_one_that_works(users: Users, url: str) -> None:
    old = users("add", "alice", "--generate").out.strip()
    assert users("password", "alice", "--password-stdin", stdin=PASSWORD).code == 0
    assert login(url, "alice", PASSWORD).username == "alice"
    with pytest.raises(InvalidGrant):
        login(url, "alice", old)


def test_the_list_shows_everyone_and_no_hash(users: Users) -> None:
    users("add", "bob", "--generate")
    users("add", "alice", "--generate")
    users("disable", "BOB")
    rows = [line.split("\t")[:5] for line in users("list").out.splitlines()]
    assert rows == [
        ["alice", "default", "member", "chat,keys,models,usage", "active"],
        ["bob", "default", "member", "chat,keys,models,usage", "disabled"],
    ]


@pytest.mark.parametrize(
    ("words", "stdin", "sentence"),
    [
        (["add", "alice", "--password-stdin"], "trop court", "at least 12 characters"),
        (["add", "alice", "--password-stdin"], "\n", "at least 12 characters"),
        (["add", "alice", "--password-stdin"], "x" * 2000, "at most 1024 bytes"),
        (["add", "a b", "--generate"], "", "no space"),
        (["disable", "nobody"], "", "no user named 'nobody'"),
        (["password", "nobody", "--generate"], "", "no user named 'nobody'"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_1(users: Users, words: list[str], stdin: str, sentence: str) -> None:
    ended = users(*words, stdin=stdin or None)
    assert (ended.code, ended.out, ended.err.count("\n")) == (1, "", 1)
    assert sentence in ended.err


def test_a_name_is_given_once(users: Users) -> None:
    assert [users("add", name, "--generate").code for name in ("alice", "ALICE")] == [0, 1]


@pytest.mark.parametrize(
    "words",
    [
        ["add", "alice", "secret"],
        ["add", "alice", "--password", PASSWORD],
        ["add", "alice", "--requests-per-minute", "0"],
        ["add", "alice", "--scope", "everything"],
        ["add", "alice", "--generate", "--password-stdin"],
        [],
    ],
)
def test_what_cannot_be_meant_is_explained_and_exit_code_2(users: Users, words: list[str]) -> None:
    ended = users(*words)
    assert ended.code == 2
    assert ended.err.startswith("usage: ")


@pytest.mark.parametrize("action", ["add", "list", "disable", "password"])
def test_every_help_ends_with_an_example(users: Users, action: str) -> None:
    assert "example:\n  passerelle users add" in users(action, "--help").out


def test_registering_the_commands_loads_neither_a_database_nor_cryptography() -> None:
    program = (
        "import sys, auth.commands; print(*sorted({'sqlalchemy', 'passlib', 'jose', 'fastapi'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "\n"
