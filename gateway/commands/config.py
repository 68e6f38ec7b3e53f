"""`passerelle config check`: is a configuration usable, before anything is started with it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.commands.typing import Subparsers
    from gateway.pool import Pool

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
        description="Says which key is wrong, what it holds and what is allowed; exit code 1 then.",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    check.add_argument(
        "config", type=Path, nargs="?", metavar="FILE", help="the configuration (default: $PASSERELLE_CONFIG)"
    )
    check.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Load the settings and show what they publish."""
    from gateway.logs import configure_logging
    from gateway.routing import Catalogue
    from gateway.settings import load

    configure_logging("WARNING")
    settings = load(args.config)
    catalogue = Catalogue(settings)
    settings.tokenizers({})
    for name in catalogue.names():
        print(name)
        for place, pool in enumerate(catalogue.targets(name, may_leave=True), start=1):
            print(f"  {place}. {_described(pool)}")
    if not catalogue.names():
        print("The configuration is well-formed, but publishes no model yet.")
    return 0


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
