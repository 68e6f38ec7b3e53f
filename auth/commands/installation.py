"""What the commands need to know of an installation, and how they are run in one."""

import argparse
import asyncio
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from auth import password_rule
from auth.errors import AuthError

if TYPE_CHECKING:
    from auth.administration import Administration
    from auth.audit import Actor
    from auth.credentials import Sealer


@dataclass(frozen=True)
class Installation:
    """Where things are. `signing_keys` None: they come from a setting. `sealer` gives what API keys are stored by."""

    database_url: str
    sealer: "Callable[[], Sealer]"
    signing_keys: Path | None
    minimum_password_length: int = password_rule.MIN_CHARACTERS
    minimum_password_guesses: int = password_rule.FEWEST_GUESSES


Where = Callable[[argparse.Namespace], Installation]


@dataclass(frozen=True)
class Work:
    """What an action gets: the administration, who it is done by, the arguments, and the installation."""

    administration: "Administration"
    by: "Actor"
    args: argparse.Namespace
    installation: Installation


Action = Callable[[Work], Awaitable[None]]


def run(action: Action, where: Where, args: argparse.Namespace) -> int:
    """Do it; a refusal is one sentence on standard error and exit code 1."""
    try:
        asyncio.run(_open(action, where(args), args))
    except AuthError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


async def _open(action: Action, installation: Installation, args: argparse.Namespace) -> None:
    from auth.administration import Administration
    from auth.audit import of_command
    from auth.database import engine
    from auth.passwords import Passwords
    from auth.schema import ready

    opened, sealer = engine(installation.database_url), installation.sealer()
    try:
        await ready(opened)
        administration = Administration.over(
            opened,
            sealer,
            Passwords(),
            minimum_password_length=installation.minimum_password_length,
            minimum_password_guesses=installation.minimum_password_guesses,
        )
        await action(Work(administration, of_command(), args, installation))
    finally:
        await opened.dispose()
