"""How the commands are registered, and the options that several of them have."""

import argparse
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from auth.commands.installation import Action, Where, run
from auth.principal import SCOPES

if TYPE_CHECKING:
    from auth.rights import Grant

    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]  # a class, but generic for type checkers alone


class Actions:
    """The actions below one command."""

    def __init__(self, subparsers: "Subparsers", where: Where, name: str, text: str, example: str) -> None:
        self._where, self._example = where, example
        parser = subparsers.add_parser(
            name, help=text, description=text, epilog=example, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        self._actions = parser.add_subparsers(title="actions", required=True, metavar="ACTION")

    def add(self, name: str, action: Action, text: str) -> argparse.ArgumentParser:
        """Register an action on the database."""
        return self.add_offline(name, partial(run, action, self._where), text)

    def add_offline(self, name: str, func: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        """Register an action that needs no database."""
        made = self._actions.add_parser(
            name,
            help=text,
            description=text,
            epilog=self._example,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        made.set_defaults(func=func)
        return made


def add_rights(parser: argparse.ArgumentParser, default: str) -> None:
    """Options for the rights of whoever is added."""
    parser.add_argument("--scope", action="append", choices=sorted(SCOPES), help=f"repeatable; default: {default}")
    parser.add_argument("--may-leave", action="store_true", help="the text may be sent to outside models")
    parser.add_argument("--requests-per-minute", type=positive, metavar="N", help="instead of the configured limit")


def rights(args: argparse.Namespace, **more: Any) -> "Grant":
    """The rights that the options name."""
    from auth.rights import Grant

    scopes = None if args.scope is None else frozenset(args.scope)
    return Grant(scopes=scopes, may_leave=args.may_leave, requests_per_minute=args.requests_per_minute, **more)


def positive(text: str) -> int:
    """A whole number of at least 1."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number
