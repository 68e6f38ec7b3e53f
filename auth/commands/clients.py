"""`clients add | list | disable | enable | secret`: programs that get tokens for themselves."""

import sys
from typing import TYPE_CHECKING

from auth.commands.actions import Actions, add_rights, rights
from auth.commands.installation import Where, Work

if TYPE_CHECKING:
    from auth.commands.actions import Subparsers

_EXAMPLE = """example:
  passerelle clients add reports --tenant acme
  curl -u "$CLIENT_ID:$SECRET" -d grant_type=client_credentials http://127.0.0.1:8000/auth/token
"""
_PAGE = 1000


def add_command(subparsers: "Subparsers", where: Where) -> None:
    """Register `clients`."""
    actions = Actions(subparsers, where, "clients", "service clients (OAuth client credentials)", _EXAMPLE)
    add = actions.add("add", _add, "make a client; its secret is printed once, alone on stdout")
    add.add_argument("name", metavar="NAME", help="what it is")
    add.add_argument("--tenant", default="default", help="whose data it sees (default: %(default)s)")
    add_rights(add, "chat, models, usage")
    listing = actions.add("list", _list, "list the clients: id, name, tenant, scopes, state, since when")
    listing.add_argument("--tenant", help="of one tenant only")
    for name, action, text in (
        ("disable", _disable, "refuse a client and, within seconds, its tokens"),
        ("enable", _enable, "let a disabled client in again"),
        ("secret", _secret, "replace a client's secret; the old one is void at once"),
    ):
        actions.add(name, action, text).add_argument("id", metavar="ID", help="the client's id, as `list` shows it")


async def _add(work: Work) -> None:
    from auth.rights import ROOT

    args = work.args
    client, secret = await work.administration.add_client(ROOT, work.by, args.name, rights(args), tenant=args.tenant)
    print(
        f"Made the client {client.id} ({client.name} of {client.tenant}). Its secret is shown this once:",
        file=sys.stderr,
    )
    print(secret)


async def _list(work: Work) -> None:
    from auth.rights import ROOT

    after = ""
    while clients := await work.administration.clients(ROOT, work.args.tenant, after, _PAGE):
        for client in clients:
            state = "disabled" if client.disabled else "active"
            scopes, since = ",".join(sorted(client.scopes)), f"{client.created_at:%Y-%m-%dT%H:%M:%SZ}"
            print(client.id, client.name, client.tenant, scopes, state, since, sep="\t")
        after = clients[-1].id


async def _disable(work: Work) -> None:
    await _set(work, disabled=True)
    print(f"Disabled {work.args.id}.", file=sys.stderr)


async def _enable(work: Work) -> None:
    await _set(work, disabled=False)
    print(f"Enabled {work.args.id}.", file=sys.stderr)


async def _secret(work: Work) -> None:
    from auth.rights import ROOT

    secret = await work.administration.new_client_secret(ROOT, work.by, work.args.id)
    print("The new secret is shown this once:", file=sys.stderr)
    print(secret)


async def _set(work: Work, *, disabled: bool) -> None:
    from auth.rights import ROOT

    await work.administration.change_client(ROOT, work.by, work.args.id, disabled=disabled)
