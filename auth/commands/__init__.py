"""`users | tenants | keys | clients | signing-keys | audit`: what the admin API does, beside the database, without a token.

A password is asked for on the terminal, read from standard input, or generated and shown once; never an argument, which every
process on the machine could read and the shell would remember. Keys and secrets are printed once, alone on standard output.
"""

from typing import TYPE_CHECKING

from auth.commands import audit, clients, keys, signing_keys, tenants, users
from auth.commands.installation import Installation, Where

if TYPE_CHECKING:
    from auth.commands.actions import Subparsers

__all__ = ["NAMES", "Installation", "Where", "add_commands"]

NAMES = ("users", "tenants", "keys", "clients", "signing-keys", "audit")


def add_commands(subparsers: "Subparsers", where: Where) -> None:
    """Register the commands; each action sets `func(args) -> int`. `where` says of an installation what they need."""
    for part in (users, tenants, keys, clients, signing_keys, audit):
        part.add_command(subparsers, where)
