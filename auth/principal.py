"""Who is calling, and what they may do."""

from dataclasses import dataclass
from typing import Final, Literal

from auth.errors import InsufficientScope

CHAT: Final = "chat"  # ask a model
MODELS: Final = "models"  # see which models there are
LANGUAGES: Final = "languages"  # have answers in other languages than French
USAGE: Final = "usage"  # see one's own consumption
KEYS: Final = "keys"  # make and revoke API keys of one's own
OPERATE: Final = "operate"  # see the users, keys, clients and audit rows of one's tenant; lock them out
ADMIN: Final = "admin"  # give rights to the users, keys and clients of one's tenant
TENANTS: Final = "tenants"  # do in every tenant what `operate` and `admin` allow in one's own; add tenants with `admin`

SCOPES: Final = frozenset({CHAT, LANGUAGES, MODELS, USAGE, KEYS, OPERATE, ADMIN, TENANTS})

HOUSE: Final = "default"  # the tenant of the installation itself, there from the start

# What a new user of a role may do unless told otherwise; the scopes are stored with the user, so a change here changes
# nobody's rights behind their back.
SCOPES_OF_ROLE: Final = {
    "member": frozenset({CHAT, MODELS, USAGE, KEYS}),
    "service": frozenset({CHAT, MODELS, USAGE}),
    "operator": frozenset({CHAT, MODELS, USAGE, KEYS, OPERATE}),
    "admin": frozenset({CHAT, LANGUAGES, MODELS, USAGE, KEYS, OPERATE, ADMIN}),  # languages: to give it to others
}

Kind = Literal["user", "client", "key", "outside"]


def scopes_of(role: str, tenant: str) -> frozenset[str]:
    """The scopes of a new user: whoever administers or operates the house's own tenant does so for all of them."""
    scopes = SCOPES_OF_ROLE[role]
    return scopes | {TENANTS} if tenant == HOUSE and OPERATE in scopes else scopes


@dataclass(frozen=True, slots=True)
class Principal:
    """A verified caller.

    `kind`: a user or a service client by a token of ours, an API key, or a token of an outside issuer. `may_leave`: may this
    caller's text be sent to a model outside the house. `requests_per_minute`: the caller's own limit, None for the configured
    one; an API key may have a `key_requests_per_minute` besides. `models`: the published names the caller may ask for, None for
    all. `session` names the login a token came from, `key` the API key.
    """

    subject: str
    tenant: str
    scopes: frozenset[str]
    kind: Kind = "user"
    may_leave: bool = False
    requests_per_minute: int | None = None
    key_requests_per_minute: int | None = None
    models: frozenset[str] | None = None
    session: str | None = None
    key: str | None = None

    def require(self, scope: str) -> None:
        """Raise InsufficientScope unless the caller has `scope`."""
        if scope not in self.scopes:
            raise InsufficientScope(scope)

    def reaches(self, tenant: str) -> bool:
        """Whether the caller's rights hold in `tenant`."""
        return tenant == self.tenant or TENANTS in self.scopes

    def knows(self, model: str) -> bool:
        """Whether the caller may ask for `model`."""
        return self.models is None or model in self.models
