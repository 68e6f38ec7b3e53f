"""A bearer token of any kind → who is calling."""

from dataclasses import dataclass

from auth.credentials import KEY_PREFIX
from auth.errors import InvalidToken
from auth.issuers import OutsideTokens
from auth.keys import ApiKeys
from auth.principal import Principal
from auth.revocations import Revocations
from auth.tokens import Tokens


@dataclass(frozen=True)
class Verifier:
    """Tokens of ours and of outside issuers are verified here, without a database; API keys by a short memory of one."""

    tokens: Tokens
    keys: ApiKeys
    outside: OutsideTokens | None
    revocations: Revocations

    async def principal(self, token: str) -> Principal:
        """Give the caller; raises InvalidToken, StoreUnavailable or IssuerUnavailable."""
        if token.startswith(KEY_PREFIX):
            return await self.keys.verify(token)
        if self.outside is not None and self.outside.speaks_for(token):
            principal = await self.outside.verify(token)
        else:
            principal = self.tokens.verify(token).principal
        if self.revocations.tenant(principal.tenant):
            raise InvalidToken
        return principal
