"""`keys add | list | revoke | check`: long-lived API keys, for the SDK's `api_key`."""

import argparse
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from auth.commands.actions import Actions, add_rights, positive, rights
from auth.commands.installation import Where, Work

if TYPE_CHECKING:
    from auth.commands.actions import Subparsers

_EXAMPLE = """example:
  passerelle keys add ci --tenant acme --model gemma-3-270m --expires-in 90
  passerelle keys revoke 2f0c…
"""
_PAGE = 1000
_LONGEST = 36_500  # days


def add_command(subparsers: "Subparsers", where: Where) -> None:
    """Register `keys`."""
    actions = Actions(subparsers, where, "keys", "API keys", _EXAMPLE)
    add = actions.add("add", _add, "make a key and print it once, alone on stdout")
    add.add_argument("name", metavar="NAME", help="what it is for")
    owner = add.add_mutually_exclusive_group()
    owner.add_argument("--user", metavar="NAME", help="whose key it is; that user's rights bound it")
    owner.add_argument("--tenant", default="default", help="whose key it is, of no user (default: %(default)s)")
    add_rights(add, "chat, models, usage")
    add.add_argument("--model", action="append", metavar="NAME", help="repeatable; default: every model")
    add.add_argument("--expires-in", type=_days, metavar="DAYS", help="default: never")
    listing = actions.add(
        "list", _list, "list the keys: id, how it begins, name, tenant, owner, scopes, state, last use"
    )
    listing.add_argument("--tenant", help="of one tenant only")
    actions.add("revoke", _revoke, "refuse a key for good, everywhere within 5 seconds").add_argument(
        "id", metavar="ID", help="the key's id, as `list` shows it"
    )
    text = "does a text have the form of a key? reads it from standard input and asks nobody"
    actions.add_offline("check", _check, text)


def _days(text: str) -> int:
    days = positive(text)
    if days > _LONGEST:
        raise argparse.ArgumentTypeError(f"must be at most {_LONGEST}")
    return days


async def _add(work: Work) -> None:
    from auth.rights import ROOT

    args, administration = work.args, work.administration
    expires = None if args.expires_in is None else datetime.now(UTC) + timedelta(days=args.expires_in)
    models = None if args.model is None else frozenset(args.model)
    user = await administration.user_store.named(args.user) if args.user else None
    key, secret = await administration.add_key(
        ROOT,
        work.by,
        args.name,
        rights(args, models=models, expires_at=expires),
        tenant=user.tenant if user else args.tenant,
        owner=user.id if user else None,
    )
    print(f"Made the key {key.id} ({key.hint}…, {key.tenant}). It is shown this once:", file=sys.stderr)
    print(secret)


async def _list(work: Work) -> None:
    from auth.rights import ROOT

    after, now = "", datetime.now(UTC)
    while keys := await work.administration.keys(ROOT, work.args.tenant, after, _PAGE):
        for key in keys:
            ended = key.expires_at is not None and key.expires_at <= now
            state = "revoked" if key.revoked_at else "expired" if ended else "active"
            used = f"{key.last_used_at:%Y-%m-%dT%H:%M:%SZ}" if key.last_used_at else "never"
            scopes = ",".join(sorted(key.scopes))
            print(key.id, key.hint, key.name, key.tenant, key.owner or "-", scopes, state, used, sep="\t")
        after = keys[-1].id


async def _revoke(work: Work) -> None:
    from auth.rights import ROOT

    key = await work.administration.revoke_key(ROOT, work.by, work.args.id)
    print(f"Revoked {key.name} ({key.hint}…).", file=sys.stderr)


def _check(_args: argparse.Namespace) -> int:
    from auth.credentials import well_formed

    if well_formed(sys.stdin.readline(200).strip()):
        print("It has the form and the checksum of an API key. Whether it holds, only the gateway can tell.")
        return 0
    print("This is no API key: one begins with psl_ and its last six characters are a checksum.", file=sys.stderr)
    return 1
