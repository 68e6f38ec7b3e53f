"""Who is calling: the bearer token of a request -> its Principal.

Every route hangs on `Access`; the routes that need no principal are listed in `PUBLIC` and nowhere else.
"""

from __future__ import annotations

from fastapi import Request
from fastapi.openapi.models import HTTPBearer
from fastapi.security.base import SecurityBase

from auth import Principal, bearer
from auth.verifier import Verifier

# Routes that answer anyone. A test walks all routes: whatever is not listed here must ask for a principal.
PUBLIC = frozenset(
    {
        "/livez",
        "/readyz",
        "/metrics",
        "/auth/token",
        "/auth/revoke",
        "/.well-known/jwks.json",
        "/.well-known/oauth-authorization-server",
        "/openapi.json",
    }
)


class Access(SecurityBase):
    """A dependency that gives the Principal of a request; raises InvalidToken (401), or an error of 503 where nobody can tell.

    It is the security scheme of the OpenAPI document itself: one dependency a request, where a scheme beside it would be two.
    """

    def __init__(self, verifier: Verifier) -> None:
        self._verifier = verifier
        self.model = HTTPBearer(description="An access token, or an API key.")
        self.scheme_name = "HTTPBearer"

    async def __call__(self, http: Request) -> Principal:
        """Verify: offline for a JWT, by a short memory of the database for an API key."""
        principal = await self._verifier.principal(bearer(http.headers.get("authorization")))
        http.scope["passerelle"].know(principal)
        return principal
