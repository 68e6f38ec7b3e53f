"""`passerelle config check`: is a configuration usable, before anything is started with it."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from gateway.commands.typing import Subparsers
    from gateway.pool import Pool
    from gateway.settings import Settings

_ASK_SECONDS: Final = 3.0

_EXAMPLE = """example:
  passerelle config check passerelle.toml
"""


def add_command(commands: Subparsers) -> None:
    """Register the command."""
    command = commands.add_parser(
        "config",
        help="check a configuration",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = command.add_subparsers(title="actions", required=True, metavar="ACTION")
    check = actions.add_parser(
        "check",
        help="check a configuration file and the environment",
        description="Says which key is wrong, what it holds and what is allowed; exit code 1 then. Else it shows the models with "
        "their targets and the guards in force, and warns of tenants that do not exist, where the database can be asked.",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    check.add_argument(
        "config", type=Path, nargs="?", metavar="FILE", help="the configuration (default: $PASSERELLE_CONFIG)"
    )
    check.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Load the settings and show what they publish, and what guards it."""
    from sqlalchemy.engine import make_url

    from gateway.commands.preparing import check_addresses
    from gateway.logs import configure_logging
    from gateway.routing import Catalogue
    from gateway.settings import load

    configure_logging("WARNING")
    settings = load(args.config)
    check_addresses(settings.state)
    catalogue = Catalogue(settings)
    settings.tokenizers({})
    for name in catalogue.names():
        print(name)
        for place, pool in enumerate(catalogue.targets(name, may_leave=True), start=1):
            print(f"  {place}. {_described(pool)}")
    if not catalogue.names():
        print("The configuration is well-formed, but publishes no model yet.")
    _show_guards(settings)
    address = make_url(settings.state.database())
    if address.get_backend_name() == "sqlite" and not Path(str(address.database)).is_file():
        return 0  # nobody has started it yet, and opening the file would make it
    for table, name in asyncio.run(_strangers(settings)):
        what = f"no tenant yet: passerelle tenants add {name}"
        if table == "limits.users":
            what = "the id of no user or client, so it limits nobody: passerelle users list shows the ids"
        print(f"passerelle: {table} names {name!r}, which is {what}", file=sys.stderr)
    return 0


def _show_guards(settings: Settings) -> None:
    """The guards in force: everybody's, and of each model and tenant those that differ."""
    from gateway.guardrails.guards import NAMES, Heard, Rules

    everybody: dict[str, str] = {}
    for place, tables in settings.guards.every().items():
        rules = Rules(tables, settings.fail_policy, lambda _guard, _reason: None, Heard())
        modes = {guard: rules.mode(guard) for guard in NAMES}
        everybody = everybody or dict(modes)
        told = [f"{guard} {mode}" for guard, mode in modes.items() if place == "guards" or mode != everybody[guard]]
        print(f"{place}: {', '.join(told) or 'as everybody has them, but for numbers and texts'}")


async def _strangers(settings: Settings) -> list[tuple[str, str]]:
    """Tenants and callers that a table names and the database does not know, if it can be asked."""
    from sqlalchemy import select
    from sqlalchemy.exc import SQLAlchemyError

    from auth import database
    from auth.tables import clients, tenants, users

    named = [("guards.tenants", name) for name in settings.guards.tenants]
    named += [("limits.tenants", name) for name in settings.limits.tenants]
    if not settings.auth.issuers:  # theirs have any id
        named += [("limits.users", name) for name in settings.limits.users]
    if not named:
        return []
    issued = {name for entry in settings.auth.issuers.values() for name in (entry.tenant, *entry.tenants) if name}
    engine = database.engine(settings.state.database(), statement_s=_ASK_SECONDS)
    try:
        async with asyncio.timeout(_ASK_SECONDS), engine.connect() as connection:
            asked = (tenants.c.name, users.c.id, clients.c.id)
            known = {name for column in asked for name in (await connection.execute(select(column))).scalars()}
    except (SQLAlchemyError, OSError, TimeoutError) as error:
        print(
            f"passerelle: the tenants were not compared, as the database does not answer ({type(error).__name__}).",
            file=sys.stderr,
        )
        return []
    finally:
        await engine.dispose()
    return [(place, name) for place, name in named if name not in known | issued]


def _described(pool: Pool) -> str:
    """A target in one line: what an operator would want to see before the first request."""
    target, replicas = pool.target, len(pool.replicas)
    facts = [
        f"{replicas} replica{'s' if replicas > 1 else ''} of {target.model}",
        f"{pool.context_length} tokens" if pool.context_length else "unknown context length",
        f"{target.concurrency} request{'s' if target.concurrency > 1 else ''} at once each"
        if target.concurrency
        else "any number of requests at once",
    ]
    facts += [f"prompts counted by {target.tokenizer}"] if target.tokenizer else []
    facts += ["images"] if target.images else []
    facts += [f"only {', '.join(target.tasks)}"] if target.tasks else []
    facts += [f"{target.price.input} in, {target.price.output} out a million tokens"] if target.price else []
    facts += [f"{target.price_per_hour} an hour each"] if target.price_per_hour is not None else []
    facts += ["outside: only for callers whose text may leave"] if target.outside else []
    return f"{pool.name}: {'; '.join(facts)}"
