"""`passerelle ledger show | trim | forget`: the rows of a request, and rows that may or must go."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from auth.commands.actions import positive
from gateway.commands.actions import command

if TYPE_CHECKING:
    from gateway.commands.accounts import Accounts
    from gateway.commands.typing import Subparsers

_EXAMPLE = """example:
  passerelle ledger show req_81086f1b9a0c4d5e
  passerelle ledger trim --keep-days 395 --yes
  passerelle ledger forget --tenant acme --yes
"""


_NOBODY = "There is no row of theirs: `tenants list`, `users list`, `clients list` and `keys list` show names and ids."


def add_command(commands: Subparsers) -> None:
    """Register the command."""
    text = "the rows of a request; delete old rows, or those of a tenant or a person"
    add = command(commands, "ledger", text, _EXAMPLE)
    shown = add("show", _show, "the rows of a request, by its x-request-id")
    shown.add_argument("request_id", metavar="REQUEST_ID", help="as the header and the log have it")
    trimmed = add(
        "trim", _trim, "delete the rows of all requests that ended before so many days; budgets of then are over"
    )
    trimmed.add_argument("--keep-days", type=positive, required=True, metavar="N", help="31 at the least")
    forgotten = add("forget", _forget, "delete every row of a tenant, or of one person in it (GDPR, article 17)")
    forgotten.add_argument("--tenant", required=True, help="whose rows")
    forgotten.add_argument("--user", metavar="ID", help="of one user, client or key alone, by its id")
    for made in (trimmed, forgotten):
        made.add_argument("--yes", action="store_true", help="they may go; there is no way back")


def _show(args: argparse.Namespace) -> int:
    from gateway.settings import BadSettings

    async def show(opened: Accounts) -> None:
        found = await opened.ledger.of(args.request_id)
        if not found:
            raise BadSettings(f"There is no row of the request {args.request_id!r}.")
        for row in found:
            print("  ".join(f"{name}={value}" for name, value in row.items() if value not in (None, "")))

    return _run(args, show)


def _trim(args: argparse.Namespace) -> int:
    from gateway.settings import BadSettings

    if args.keep_days < 31:
        raise BadSettings(
            f"--keep-days holds {args.keep_days}, but the budgets of this month need its rows: keep 31 or more."
        )
    before = datetime.now(UTC) - timedelta(days=args.keep_days)
    if not args.yes:
        raise BadSettings(f"All rows of before {before:%Y-%m-%d %H:%M} UTC would be deleted for good: say --yes.")

    async def trim(opened: Accounts) -> None:
        from auth.audit import of_command
        from gateway import erasure

        print(f"Deleted {await erasure.trim(opened.engine, before, of_command())} rows.", file=sys.stderr)

    return _run(args, trim)


def _forget(args: argparse.Namespace) -> int:
    async def forget(opened: Accounts) -> None:
        from auth.audit import of_command
        from gateway import erasure
        from gateway.settings import BadSettings

        if not args.yes:
            found = await erasure.count(opened.engine, args.tenant, args.user)
            if not found:
                raise BadSettings(_NOBODY)
            raise BadSettings(
                f"{found} rows would be deleted for good: say --yes. Requests under way would write new ones: disable the "
                "tenant or the user first."
            )
        gone = await erasure.forget(opened.engine, args.tenant, args.user, of_command())
        if not gone:
            raise BadSettings(_NOBODY)
        print(f"Deleted {gone} rows.", file=sys.stderr)

    return _run(args, forget)


def _run(args: argparse.Namespace, do: Callable[[Accounts], Awaitable[None]]) -> int:
    from gateway.commands import accounts

    return accounts.run(args.config, do)
