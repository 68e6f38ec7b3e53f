"""`audit list`: who changed which right, when and from where."""

import json
from typing import TYPE_CHECKING

from auth.commands.actions import Actions, positive
from auth.commands.installation import Where, Work

if TYPE_CHECKING:
    from auth.commands.actions import Subparsers

_EXAMPLE = """example:
  passerelle audit list --tenant acme --limit 20
"""


def add_command(subparsers: "Subparsers", where: Where) -> None:
    """Register `audit`."""
    actions = Actions(subparsers, where, "audit", "who changed which right, when and from where", _EXAMPLE)
    listing = actions.add("list", _list, "the newest rows first: time, actor, address, action, tenant, object, detail")
    listing.add_argument("--tenant", help="about one tenant only")
    listing.add_argument("--limit", type=positive, default=100, metavar="N", help="rows (default: %(default)s)")


async def _list(work: Work) -> None:
    from auth.rights import ROOT

    for row in await work.administration.audit(ROOT, work.args.tenant, None, work.args.limit):
        detail = json.dumps(row.detail, ensure_ascii=False)
        print(
            f"{row.at:%Y-%m-%dT%H:%M:%SZ}", row.actor, row.address, row.action, row.tenant, row.object, detail, sep="\t"
        )
