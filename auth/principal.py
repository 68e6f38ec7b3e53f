"""Who is calling, and what they may do."""

from dataclasses import dataclass
from typing import Final, Literal

from auth.errors import InsufficientScope

CHAT: Final = "chat"  # ask a model
MODELS: Final = "models"  # see which models there are
USAGE: Final = "usage"  # see one's own consumption
ADMIN: Final = "admin"  # manage users and see everyone's consumption

SCOPES: Final = frozenset({CHAT, MODELS, USAGE, ADMIN})

# What a new user of a role may do unless told otherwise; the scopes are stored with the user, so a change here changes
# nobody's rights behind their back.
SCOPES_OF_ROLE: Final = {
    "member": frozenset({CHAT, MODELS, USAGE}),
    "admin": SCOPES,
}


@dataclass(frozen=True, slots=True)
class Principal:
    """A verified caller.

    `may_leave`: may this caller's text be sent to a model outside the house. `requests_per_minute`: the caller's own
    limit, None for the configured one.
    """

    subject: str
    tenant: str
    scopes: frozenset[str]
    kind: Literal["user"] = "user"
    may_leave: bool = False
    requests_per_minute: int | None = None

    def require(self, scope: str) -> None:
        """Raise InsufficientScope unless the caller has `scope`."""
        if scope not in self.scopes:
            raise InsufficientScope(scope)
