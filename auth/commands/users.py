"""`users add | list | change | disable | enable | password`: the people who may log in."""

import argparse
import getpass
import secrets
import sys
from typing import TYPE_CHECKING, Any

from auth import password_rule
from auth.commands.actions import Actions, add_rights, positive, rights
from auth.commands.installation import Where, Work
from auth.errors import WeakPassword
from auth.principal import SCOPES, SCOPES_OF_ROLE

if TYPE_CHECKING:
    from auth.commands.actions import Subparsers
    from auth.store import User

_EXAMPLE = """example:
  passerelle users add alice --tenant acme --generate
  printf '%s' "$PASSWORD" | passerelle users password alice --password-stdin
"""
_PAGE = 1000


def add_command(subparsers: "Subparsers", where: Where) -> None:
    """Register `users`."""
    actions = Actions(subparsers, where, "users", "the people who may log in", _EXAMPLE)
    add = _named(actions.add("add", _add, "add a user, and the tenant if it is new"))
    add.add_argument("--tenant", default="default", help="whose data the user sees (default: %(default)s)")
    add.add_argument("--role", default="member", choices=sorted(SCOPES_OF_ROLE), help="(default: %(default)s)")
    add_rights(add, "those of the role")
    _add_password_options(add)
    listing = actions.add("list", _list, "list the users: name, tenant, role, scopes, state, since when, id")
    listing.add_argument("--tenant", help="of one tenant only")
    change = _named(actions.add("change", _change, "change a user's rights; tokens already given are void in seconds"))
    change.add_argument("--role", choices=sorted(SCOPES_OF_ROLE), help="with its scopes, unless others are named")
    change.add_argument("--scope", action="append", choices=sorted(SCOPES), help="repeatable; instead of those of now")
    change.add_argument(
        "--may-leave", action=argparse.BooleanOptionalAction, help="the text may be sent to outside models"
    )
    change.add_argument("--requests-per-minute", type=positive, metavar="N", help="instead of the configured limit")
    _named(actions.add("disable", _disable, "refuse a user's logins, keys and, within seconds, tokens"))
    _named(actions.add("enable", _enable, "let a disabled user log in again"))
    _add_password_options(_named(actions.add("password", _password, "replace a user's password")))


def _named(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    parser.add_argument("name", metavar="NAME", help="the user's name; case does not matter")
    return parser


def _add_password_options(parser: argparse.ArgumentParser) -> None:
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--password-stdin", action="store_true", help="read the password from standard input, one line")
    source.add_argument("--generate", action="store_true", help="make a password and print it once, alone on stdout")


async def _add(work: Work) -> None:
    from auth.rights import ROOT

    args = work.args
    password, generated = _new_password(work)
    user = await work.administration.add_user(
        ROOT, work.by, args.name, password, rights(args), tenant=args.tenant, role=args.role
    )
    print(f"Added {user.username} ({user.role} of {user.tenant}).", file=sys.stderr)
    _show(generated)


async def _list(work: Work) -> None:
    from auth.rights import ROOT

    after = ""
    while users := await work.administration.users(ROOT, work.args.tenant, after, _PAGE):
        for user in users:
            state = "disabled" if user.disabled else "active"
            scopes = ",".join(sorted(user.scopes))
            since = f"{user.created_at:%Y-%m-%dT%H:%M:%SZ}"
            print(user.username, user.tenant, user.role, scopes, state, since, user.id, sep="\t")
        after = users[-1].username


async def _change(work: Work) -> None:
    args = work.args
    named: dict[str, Any] = {
        "role": args.role,
        "scopes": None if args.scope is None else frozenset(args.scope),
        "may_leave": args.may_leave,
        "requests_per_minute": args.requests_per_minute,
    }
    changes = {name: value for name, value in named.items() if value is not None}
    user = await (_changed(work, **changes) if changes else _found(work))
    print(f"{user.username}: {user.role} with {', '.join(sorted(user.scopes))}.", file=sys.stderr)


async def _disable(work: Work) -> None:
    await _changed(work, disabled=True)
    print(f"Disabled {work.args.name}.", file=sys.stderr)


async def _enable(work: Work) -> None:
    await _changed(work, disabled=False)
    print(f"Enabled {work.args.name}.", file=sys.stderr)


async def _password(work: Work) -> None:
    password, generated = _new_password(work)
    await _changed(work, password=password)
    print(f"Changed the password of {work.args.name}.", file=sys.stderr)
    _show(generated)


async def _found(work: Work) -> "User":
    return await work.administration.user_store.named(work.args.name)


async def _changed(work: Work, **changes: Any) -> "User":
    from auth.rights import ROOT

    return await work.administration.change_user(ROOT, work.by, (await _found(work)).id, **changes)


def _new_password(work: Work) -> tuple[str, str | None]:
    """A new password, and the same again when it was generated here."""
    minimum = work.installation.minimum_password_length
    generated = secrets.token_urlsafe(max(18, minimum)) if work.args.generate else None
    return generated or (_from_stdin() if work.args.password_stdin else _from_terminal()), generated


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
