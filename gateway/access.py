"""Who is calling: the bearer token of a request -> its Principal.

Every route hangs on `Access`; the routes that need no principal are listed in `PUBLIC` and nowhere else.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPBearer

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

_documented = HTTPBearer(auto_error=False, description="An access token, or an API key.")


class Access:
    """A dependency that gives the Principal of a request; raises InvalidToken (401), or an error of 503 where nobody can tell."""

    def __init__(self, verifier: Verifier) -> None:
        self._verifier = verifier

    async def __call__(self, http: Request, _: Annotated[object, Depends(_documented)] = None) -> Principal:
        """Verify: offline for a JWT, by a short memory of the database for an API key."""
        principal = await self._verifier.principal(bearer(http.headers.get("authorization")))
        http.scope["passerelle"].know(principal)
        return principal
