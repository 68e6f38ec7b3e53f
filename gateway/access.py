"""Who is calling: the bearer token of a request -> its Principal.

Every route under `/v1` hangs on `Access`; the routes that need no principal are listed in `PUBLIC` and nowhere else.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPBearer

from auth import Principal, bearer
from auth.tokens import Tokens

# Routes that answer anyone. A test walks all routes: whatever is not listed here must ask for a principal.
PUBLIC = frozenset({"/livez", "/readyz", "/metrics", "/auth/token", "/.well-known/jwks.json", "/openapi.json"})

_documented = HTTPBearer(auto_error=False, description="An access token from /auth/token.")


class Access:
    """A dependency that gives the Principal of a request; raises InvalidToken (401)."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens

    async def __call__(self, http: Request, _: Annotated[object, Depends(_documented)] = None) -> Principal:
        """Verify offline: no database is asked for a JWT."""
        principal = self._tokens.verify(bearer(http.headers.get("authorization"))).principal
        http.scope["passerelle"].know(principal)
        return principal
