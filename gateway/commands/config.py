"""`passerelle config check`: is a configuration usable, before anything is started with it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.commands.typing import Subparsers

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
    from gateway.routing import Catalogue
    from gateway.settings import load
    from gateway.telemetry import configure_logging

    configure_logging("WARNING")
    catalogue = Catalogue(load(args.config))
    for name in catalogue.names():
        pools = catalogue.targets(name, may_leave=True)
        print(f"{name}: " + ", then ".join(f"{pool.name} ({len(pool.replicas)} replica(s))" for pool in pools))
    if not catalogue.names():
        print("The configuration is well-formed, but publishes no model yet.")
    return 0
