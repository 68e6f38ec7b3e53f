"""`passerelle usage`: tokens, requests and money, and the return on machines of one's own."""

from __future__ import annotations

import argparse
import json
import sys
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from gateway.commands.accounts import Accounts
    from gateway.commands.typing import Subparsers
    from gateway.usage import Period

GROUPS: Final = ("day", "tenant", "user", "key", "model", "target")  # those of `gateway.usage`, which is slow to import
_EXAMPLE = """example:
  passerelle usage                                       this month, by tenant
  passerelle usage --month 2026-10 --by day --by model --format csv > october.csv
  passerelle usage --since 2026-11-01 --until 2026-11-08 --tenant acme --by user
"""


def add_command(commands: Subparsers) -> None:
    """Register the command."""
    command = commands.add_parser(
        "usage",
        help="tokens, requests and money by tenant, user, key, model or day, and the return on investment",
        description="Sums up the ledger. Days and months are those of UTC.",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("--month", type=_month, metavar="YYYY-MM", help="one month; by default this one until today")
    command.add_argument("--since", type=date.fromisoformat, metavar="YYYY-MM-DD", help="the first day")
    command.add_argument("--until", type=date.fromisoformat, metavar="YYYY-MM-DD", help="the day after the last one")
    command.add_argument(
        "--by", action="append", choices=GROUPS, help="what the sums are for; repeatable (default: tenant)"
    )
    command.add_argument("--tenant", help="of one tenant only")
    command.add_argument("--user", metavar="ID", help="of one user or client only; `users list` shows the ids")
    command.add_argument("--format", choices=("table", "json", "csv"), default="table", help="default: %(default)s")
    command.add_argument("--config", type=Path, metavar="FILE", help="the configuration (default: $PASSERELLE_CONFIG)")
    command.set_defaults(func=_run)


def _run(args: argparse.Namespace) -> int:
    from gateway.commands import accounts

    period = _period(args)

    async def show(opened: Accounts) -> None:
        from gateway import reports

        made = await reports.make(
            opened.engine,
            opened.settings.tariff(),
            period,
            args.by or ["tenant"],
            datetime.now(UTC),
            tenant=args.tenant,
            subject=args.user,
        )
        if args.format == "json":
            print(json.dumps(made.document(), ensure_ascii=False, indent=2))
        else:
            sys.stdout.write(made.csv() if args.format == "csv" else made.table())

    return accounts.run(args.config, show)


def _period(args: argparse.Namespace) -> Period:
    from gateway.settings import BadSettings
    from gateway.usage import Period

    if args.month is not None:
        if args.since or args.until:
            raise BadSettings("--month goes without --since and --until.")
        return Period.of_month(args.month)
    usual = Period.this_month(datetime.now(UTC))
    since, until = args.since or usual.since, args.until or usual.until
    if not since < until:
        raise BadSettings(f"--until holds {until}, but it is the day after the last one and must come after {since}.")
    return Period(since, until)


def _month(text: str) -> date:
    try:
        return date.fromisoformat(f"{text}-01")
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no month, such as 2026-11") from None
