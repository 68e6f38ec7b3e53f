"""`passerelle database status | upgrade | downgrade`: the tables' revisions."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from gateway.commands.actions import command

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

    from auth.schema import Lineage
    from gateway.commands.typing import Subparsers

_EXAMPLE = """example:
  passerelle database status --config passerelle.toml
  passerelle database downgrade auth 0001 --yes
"""


def add_command(commands: Subparsers) -> None:
    """Register the command."""
    description = (
        "A gateway that starts brings its tables to the newest revision by itself. These are for those who would rather do it "
        "before, or have to go back: stop the gateways, go back, start the older ones."
    )
    add = command(commands, "database", "the revisions of the tables", _EXAMPLE, description)
    add("status", _status, "the revision of each lineage of tables, and the newest")
    add("upgrade", _upgrade, "bring every table to the newest revision")
    back = add("downgrade", _downgrade, "lead one lineage back; what only later revisions hold is lost")
    back.add_argument("lineage", choices=("auth", "ledger"), help="which tables")
    back.add_argument("revision", metavar="REVISION", help="as `status` shows it; `base` removes the tables")
    back.add_argument("--yes", action="store_true", help="the gateways are stopped, and what is lost may be lost")


def _status(args: argparse.Namespace) -> int:
    from auth import schema

    async def show(engine: AsyncEngine, lineage: Lineage) -> None:
        print(lineage.name, await schema.revision(engine, lineage) or "none", lineage.head, sep="\t")

    return _each(args, show)


def _upgrade(args: argparse.Namespace) -> int:
    from auth import schema

    async def lead(engine: AsyncEngine, lineage: Lineage) -> None:
        await schema.prepare(engine, lineage)
        print(f"{lineage.name}: revision {lineage.head}", file=sys.stderr)

    return _each(args, lead)


def _downgrade(args: argparse.Namespace) -> int:
    from auth import schema
    from auth.errors import BadConfiguration

    if not args.yes:
        raise BadConfiguration(
            f"Going back to {args.revision} loses what only later revisions of the {args.lineage} tables hold "
            "(docs/authentication.md): stop the gateways, make a backup, and say --yes."
        )

    async def lead(engine: AsyncEngine, lineage: Lineage) -> None:
        if lineage.name == args.lineage:
            await schema.downgrade(engine, lineage, args.revision)
            print(f"{lineage.name}: revision {args.revision}", file=sys.stderr)

    return _each(args, lead)


def _each(args: argparse.Namespace, do: Callable[[AsyncEngine, Lineage], Awaitable[None]]) -> int:
    from auth.database import engine
    from auth.schema import AUTH
    from gateway.ledger import LINEAGE
    from gateway.settings import load

    async def run() -> None:
        opened = engine(load(args.config).state.database())
        try:
            for lineage in (AUTH, LINEAGE):
                await do(opened, lineage)
        finally:
            await opened.dispose()

    asyncio.run(run())
    return 0
