"""`users add | list | disable | enable | password`: the people who may log in.

A password is asked for on the terminal, read from standard input, or generated and shown once; never an argument, which
every process on the machine could read and the shell would remember.
"""

import argparse
import asyncio
import getpass
import secrets
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING

from auth import password_rule
from auth.errors import AuthError, WeakPassword
from auth.principal import SCOPES, SCOPES_OF_ROLE

if TYPE_CHECKING:
    from auth.store import UserStore

    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]  # a class, but generic for type checkers alone

DatabaseUrl = Callable[[argparse.Namespace], str]
Minimum = Callable[[argparse.Namespace], int]
Action = Callable[["UserStore", argparse.Namespace, int], Awaitable[None]]

_EXAMPLE = """example:
  passerelle users add alice --tenant acme --generate
  printf '%s' "$PASSWORD" | passerelle users password alice --password-stdin
"""


def add_commands(
    subparsers: "Subparsers", database_url: DatabaseUrl, minimum: Minimum = lambda _args: password_rule.MIN_CHARACTERS
) -> None:
    """Register `users`; each command sets `func(args) -> int`. `minimum` gives the shortest password, in characters."""
    parser = subparsers.add_parser(
        "users", help="the people who may log in", epilog=_EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    actions = parser.add_subparsers(title="actions", required=True, metavar="ACTION")

    def command(name: str, action: Action, text: str, *, named: bool = True) -> argparse.ArgumentParser:
        made = actions.add_parser(
            name, help=text, description=text, epilog=_EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        if named:
            made.add_argument("name", metavar="NAME", help="the user's name; case does not matter")
        made.set_defaults(func=partial(_run, action, database_url, minimum))
        return made

    add = command("add", _add, "add a user")
    add.add_argument("--tenant", default="default", help="whose data the user sees (default: %(default)s)")
    add.add_argument("--role", default="member", choices=sorted(SCOPES_OF_ROLE), help="(default: %(default)s)")
    add.add_argument("--scope", action="append", choices=sorted(SCOPES), help="repeatable; default: those of the role")
    add.add_argument("--may-leave", action="store_true", help="the user's text may be sent to outside models")
    add.add_argument("--requests-per-minute", type=_positive, metavar="N", help="instead of the configured limit")
    _add_password_options(add)
    command("list", _list, "list the users", named=False)
    command("disable", _disable, "refuse a user's further logins; tokens already given expire by themselves")
    command("enable", _enable, "let a disabled user log in again")
    _add_password_options(command("password", _password, "replace a user's password"))


def _add_password_options(parser: argparse.ArgumentParser) -> None:
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--password-stdin", action="store_true", help="read the password from standard input, one line")
    source.add_argument("--generate", action="store_true", help="make a password and print it once, alone on stdout")


def _run(action: Action, database_url: DatabaseUrl, minimum: Minimum, args: argparse.Namespace) -> int:
    try:
        asyncio.run(_with_store(action, database_url(args), minimum(args), args))
    except AuthError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


async def _with_store(action: Action, url: str, minimum: int, args: argparse.Namespace) -> None:
    from auth.database import engine
    from auth.store import UserStore

    opened = engine(url)
    try:
        store = UserStore(opened)
        await store.create_schema()
        await action(store, args, minimum)
    finally:
        await opened.dispose()


async def _add(store: "UserStore", args: argparse.Namespace, minimum: int) -> None:
    password_hash, generated = await _new_hash(args, minimum)
    user = await store.add(
        args.name,
        password_hash,
        tenant=args.tenant,
        role=args.role,
        scopes=args.scope or SCOPES_OF_ROLE[args.role],
        may_leave=args.may_leave,
        requests_per_minute=args.requests_per_minute,
    )
    print(f"Added {user.username} ({user.role} of {user.tenant}).", file=sys.stderr)
    _show(generated)


async def _list(store: "UserStore", _args: argparse.Namespace, _minimum: int) -> None:
    for user in await store.list():
        state = "disabled" if user.disabled else "active"
        scopes = ",".join(sorted(user.scopes))
        print(user.username, user.tenant, user.role, scopes, state, f"{user.created_at:%Y-%m-%dT%H:%M:%SZ}", sep="\t")


async def _disable(store: "UserStore", args: argparse.Namespace, _minimum: int) -> None:
    await store.disable(args.name)
    print(f"Disabled {args.name}.", file=sys.stderr)


async def _enable(store: "UserStore", args: argparse.Namespace, _minimum: int) -> None:
    await store.enable(args.name)
    print(f"Enabled {args.name}.", file=sys.stderr)


async def _password(store: "UserStore", args: argparse.Namespace, minimum: int) -> None:
    password_hash, generated = await _new_hash(args, minimum)
    await store.set_password_hash(args.name, password_hash)
    print(f"Changed the password of {args.name}.", file=sys.stderr)
    _show(generated)


async def _new_hash(args: argparse.Namespace, minimum: int) -> tuple[str, str | None]:
    """Give the hash of a new password, and the password itself when it was generated here."""
    from auth.passwords import Passwords

    generated = secrets.token_urlsafe(max(18, minimum)) if args.generate else None
    password = generated or (_from_stdin() if args.password_stdin else _from_terminal())
    password_rule.check(password, minimum)
    return await Passwords().hash(password), generated


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def _from_stdin() -> str:
    return sys.stdin.readline(4 * password_rule.MAX_BYTES).rstrip("\r\n")


def _from_terminal() -> str:
    password = getpass.getpass("Password: ")
    if getpass.getpass("Again: ") != password:
        raise WeakPassword("The two passwords differ.")
    return password


def _show(generated: str | None) -> None:
    if generated is not None:
        print(generated)
