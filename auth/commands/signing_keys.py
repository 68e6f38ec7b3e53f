"""`signing-keys list | rotate | remove`: the keys that sign access tokens."""

import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from auth.commands.actions import Actions
from auth.commands.installation import Where, Work
from auth.errors import BadConfiguration

if TYPE_CHECKING:
    from auth.commands.actions import Subparsers
    from auth.signing import KeyFolder

_EXAMPLE = """example:
  passerelle signing-keys rotate
  passerelle signing-keys list
"""


def add_command(subparsers: "Subparsers", where: Where) -> None:
    """Register `signing-keys`."""
    actions = Actions(subparsers, where, "signing-keys", "the keys that sign access tokens", _EXAMPLE)
    actions.add("list", _list, "list the keys, oldest first: number, id, since when, what it does")
    rotate = actions.add(
        "rotate",
        _rotate,
        "add a key: it is published at once, signs after 5 minutes, and the old one verifies what it signed; keys whose tokens "
        "have all expired are removed. No worker has to be restarted",
    )
    rotate.add_argument(
        "--now", action="store_true", help="sign by it at once: other workers refuse such tokens for up to 3 seconds"
    )
    remove = actions.add("remove", _remove, "remove a key that is not safe any more: its tokens are void in seconds")
    # By number, since an id may begin like an option.
    remove.add_argument("number", metavar="NUMBER", help="the key's number, as `list` shows it")


async def _list(work: Work) -> None:
    keys, now = _folder(work).keys, time.time()
    for key in keys.all():
        does = "signs" if key is keys.signer(now) else "verifies" if key is not keys.newest else "published, signs soon"
        print(key.number, key.kid, f"{datetime.fromtimestamp(key.since, UTC):%Y-%m-%dT%H:%M:%SZ}", does, sep="\t")


async def _rotate(work: Work) -> None:
    from auth.revocations import MAX_TOKEN_S

    folder = _folder(work)
    key = folder.rotate(at_once=work.args.now)
    await _record(work, "signing_key.added", key.kid)
    for kid in folder.prune(time.time(), MAX_TOKEN_S):
        await _record(work, "signing_key.removed", kid)
        print(f"Removed {kid}: its tokens have long expired.", file=sys.stderr)
    when = "now" if work.args.now else "in 5 minutes"
    print(f"Added {key.kid}: it signs {when}.", file=sys.stderr)


async def _remove(work: Work) -> None:
    folder, number = _folder(work), work.args.number
    kid = next((key.kid for key in folder.keys.all() if key.number == number), number)
    folder.remove(number)
    await _record(work, "signing_key.removed", kid)
    print(f"Removed {kid}: within seconds no token signed by it is accepted.", file=sys.stderr)


def _folder(work: Work) -> "KeyFolder":
    from auth.signing import KeyFolder

    folder = work.installation.signing_keys
    if folder is None:
        raise BadConfiguration("The signing keys come from the setting auth.signing_key: add the new one to it, last.")
    return KeyFolder(folder)


async def _record(work: Work, action: str, kid: str) -> None:
    from auth.audit import record
    from auth.database import translated
    from auth.principal import HOUSE

    with translated():
        async with work.administration.engine.begin() as connection:
            await record(connection, work.by, time.time(), action, HOUSE, f"signing_key:{kid}")
