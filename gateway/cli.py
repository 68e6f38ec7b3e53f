"""The one command, `passerelle`. Heavy imports stay inside the subcommands: `--help` answers at once."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.commands import chat, config, database, gateway, guards, ledger, top, up, usage

if TYPE_CHECKING:
    from auth.commands import Installation

_EPILOG = """examples:
  passerelle up                                     model server and gateway on this machine
  passerelle gateway --config passerelle.toml       the gateway alone
  passerelle users add alice --generate --config passerelle.toml
  passerelle chat --model gemma-3-270m "Comment suivre mon avis ?"
"""


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    from auth.commands import NAMES
    from auth.commands import add_commands as add_auth
    from serving.commands import add_commands as add_serving
    from serving.commands import add_options as add_serving_options

    made = argparse.ArgumentParser(
        prog="passerelle",
        description="French answers from Falcon and its successors, behind an OpenAI-compatible gateway.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.set_defaults(func=None)
    commands = made.add_subparsers(metavar="COMMAND", title="commands")
    up.add_command(commands, add_serving_options)
    add_serving(commands)
    gateway.add_command(commands)
    add_auth(commands, _installation)
    database.add_command(commands)
    usage.add_command(commands)
    ledger.add_command(commands)
    chat.add_command(commands)
    config.add_command(commands)
    guards.add_command(commands)
    top.add_command(commands)
    for name in NAMES:
        _with_config(commands.choices[name])
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is 0, 1 for a failure told in one sentence, or 2 for a wrong command line."""
    whole = parser()
    args = whole.parse_args(argv)
    if args.func is None:
        whole.print_help()
        return 2
    try:
        return int(args.func(args))
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `passerelle … | head`: who reads has enough; nothing more may be written at the exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except EOFError:
        print("passerelle: the input ended before an answer; --help names what needs no terminal.", file=sys.stderr)
        return 1
    except _failures() as failure:
        print(f"passerelle: {failure}", file=sys.stderr)
        return 1


def entry() -> None:
    """The console script."""
    sys.exit(main())


def _failures() -> tuple[type[Exception], ...]:
    # What may end a command in one sentence; anything else is a bug and shows its traceback.
    from auth.errors import AuthError
    from gateway.settings import BadSettings
    from serving.errors import ServingError

    return (BadSettings, AuthError, ServingError)


def _installation(args: argparse.Namespace) -> Installation:
    from auth.commands import Installation
    from gateway.identities import sealer
    from gateway.settings import load

    settings = load(args.config)
    state, auth = settings.state, settings.auth
    if state.database_url is None:  # a folder like any other: whoever stands in the wrong one should see it
        print(f"passerelle: in {state.directory.absolute()}", file=sys.stderr)
    return Installation(
        database_url=state.database(),
        sealer=partial(sealer, settings),
        signing_keys=None if auth.signing_key else auth.signing_keys or state.directory / "signing-keys",
        minimum_password_length=auth.minimum_password_length,
        minimum_password_guesses=auth.minimum_password_guesses,
    )


def _with_config(command: argparse.ArgumentParser) -> None:
    """Give every action below a command the option that names the configuration file."""
    below = [action for action in command._actions if isinstance(action, argparse._SubParsersAction)]
    for action in below:
        for choice in action.choices.values():
            choice.add_argument(
                "--config", type=Path, metavar="FILE", help="the configuration (default: $PASSERELLE_CONFIG)"
            )


if __name__ == "__main__":
    entry()
