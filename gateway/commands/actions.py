"""Commands that have actions below them, each with `--config` and the command's example."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.commands.typing import Subparsers

Add = Callable[[str, Callable[[argparse.Namespace], int], str], argparse.ArgumentParser]


def command(commands: Subparsers, name: str, text: str, example: str, description: str | None = None) -> Add:
    """Register a command; what is given back registers an action of it: its name, what does it, and what it does in words."""
    made = commands.add_parser(
        name,
        help=text,
        description=description or text,
        epilog=example,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = made.add_subparsers(title="actions", required=True, metavar="ACTION")

    def add(name: str, func: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        action = actions.add_parser(
            name, help=text, description=text, epilog=example, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        action.set_defaults(func=func)
        action.add_argument(
            "--config", type=Path, metavar="FILE", help="the configuration (default: $PASSERELLE_CONFIG)"
        )
        return action

    return add
