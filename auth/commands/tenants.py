"""`tenants add | list | disable | enable`."""

import sys
from typing import TYPE_CHECKING

from auth.commands.actions import Actions
from auth.commands.installation import Where, Work

if TYPE_CHECKING:
    from auth.commands.actions import Subparsers

_EXAMPLE = """example:
  passerelle tenants add acme
  passerelle tenants disable acme
"""


def add_command(subparsers: "Subparsers", where: Where) -> None:
    """Register `tenants`."""
    actions = Actions(subparsers, where, "tenants", "whose users, keys and usage are whose", _EXAMPLE)
    for name, action, text in (
        ("add", _add, "add a tenant"),
        ("disable", _disable, "let nobody of a tenant in, within seconds; its rows stay"),
        ("enable", _enable, "open a disabled tenant again"),
    ):
        actions.add(name, action, text).add_argument("name", metavar="NAME", help="the tenant's name")
    actions.add("list", _list, "list the tenants: name, state, since when")


async def _add(work: Work) -> None:
    from auth.rights import ROOT

    await work.administration.add_tenant(ROOT, work.by, work.args.name)
    print(f"Added the tenant {work.args.name}.", file=sys.stderr)


async def _disable(work: Work) -> None:
    from auth.rights import ROOT

    await work.administration.change_tenant(ROOT, work.by, work.args.name, disabled=True)
    print(f"Disabled the tenant {work.args.name}.", file=sys.stderr)


async def _enable(work: Work) -> None:
    from auth.rights import ROOT

    await work.administration.change_tenant(ROOT, work.by, work.args.name, disabled=False)
    print(f"Enabled the tenant {work.args.name}.", file=sys.stderr)


async def _list(work: Work) -> None:
    from auth.rights import ROOT

    for tenant in await work.administration.tenants(ROOT):
        state = "disabled" if tenant.disabled else "active"
        print(tenant.name, state, f"{tenant.created_at:%Y-%m-%dT%H:%M:%SZ}", sep="\t")
