"""Access tokens: the only place that calls python-jose on a token.

python-jose 3.5 accepts a token without `aud` or `exp`, base64 with rubbish in it, ignores `crit`, and reads the wall
clock. So it is asked for one thing, an ES256 signature by a key of ours, and all else is checked here and in `claims`.
"""

import hashlib
import json
import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable

from jose import jws
from jose.exceptions import JOSEError

from auth.claims import Claims, read
from auth.errors import InvalidToken
from auth.principal import Kind
from auth.revocations import Revocations
from auth.signing import ALGORITHM, KeySet

MAX_TOKEN_BYTES = 8 * 1024

# JWS compact form (RFC 7515 §7.1) with an ES256 signature: 64 bytes are 86 characters, the last of which has four bits
# to spare that must be zero, or one signature could be spelt sixteen ways. Five parts (JWE) and padding do not match.
_COMPACT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]{85}[AQgw]", re.ASCII)


class Tokens:
    """Issues and verifies this installation's ES256 JWTs (RFC 7519)."""

    def __init__(
        self,
        keys: KeySet,
        issuer: str,
        audience: str,
        lifetime_s: int = 900,
        now: Callable[[], float] = time.time,
        remember: int = 10_000,
        revocations: Revocations | None = None,
    ) -> None:
        """`now` gives seconds since 1970; `remember` bounds how many verified tokens are kept, oldest dropped first."""
        self._revocations, self._version = revocations, keys.version
        self.lifetime_s = lifetime_s
        self._keys, self._issuer, self._audience, self._now = keys, issuer, audience, now
        self._remember = remember
        self._verified: OrderedDict[bytes, Claims] = OrderedDict()

    def issue(
        self,
        subject: str,
        scopes: Iterable[str],
        tenant: str,
        *,
        may_leave: bool = False,
        requests_per_minute: int | None = None,
        kind: Kind = "user",
        session: str | None = None,
        generation: int = 0,
    ) -> str:
        """Sign a token that says all the gateway needs, so that nobody asks the database about it."""
        now = int(self._now())
        claims: dict[str, object] = {
            "iss": self._issuer,
            "aud": self._audience,
            "sub": subject,
            "jti": secrets.token_urlsafe(16),
            "iat": now,
            "exp": now + self.lifetime_s,
            "scope": " ".join(sorted(scopes)),
            "tenant": tenant,
            "may_leave": may_leave,
        }
        if requests_per_minute is not None:
            claims["rpm"] = requests_per_minute
        if kind != "user":
            claims["kind"] = kind
        if session is not None:
            claims["sid"] = session
        if generation:
            claims["gen"] = generation
        key = self._keys.signer(now)
        return jws.sign(claims, key.private, headers={"kid": key.kid}, algorithm=ALGORITHM)

    def verify(self, token: str) -> Claims:
        """Give the claims of a token of ours that holds now; any other string raises InvalidToken and nothing else."""
        if len(token) > MAX_TOKEN_BYTES:
            raise InvalidToken
        if self._version != self._keys.version:  # a key that was taken away takes its tokens with it
            self._verified.clear()
            self._version = self._keys.version
        # Replaced is only what no token holds: whatever is among the verified ones has been looked at, to the letter.
        digest = hashlib.sha256(token.encode(errors="replace")).digest()
        claims = self._verified.get(digest)
        if claims is None:
            if _COMPACT.fullmatch(token) is None:
                raise InvalidToken
            claims = self._verify(token)
            self._verified[digest] = claims
            if len(self._verified) > self._remember:
                self._verified.popitem(last=False)
        elif self._now() >= claims.expires_at:
            del self._verified[digest]
            raise InvalidToken
        principal, revoked = claims.principal, self._revocations
        if revoked and revoked.token(claims.token_id, principal.session, principal.subject, claims.generation):
            raise InvalidToken
        return claims

    @property
    def remembered(self) -> int:
        """How many verified tokens are kept at the moment."""
        return len(self._verified)

    def _verify(self, token: str) -> Claims:
        try:
            header = jws.get_unverified_header(token)
            key = self._keys.by_kid(header.get("kid"))
            # The header is compared whole: no `crit`, `zip`, `jku`, `jwk` or `x5u` of a stranger is ever looked at.
            if key is None or header != {"alg": ALGORITHM, "typ": "JWT", "kid": key.kid}:
                raise InvalidToken
            payload = json.loads(jws.verify(token, key.public, [ALGORITHM]))
        except (JOSEError, ValueError, RecursionError) as error:  # RecursionError: JSON nested thousands deep
            raise InvalidToken from error
        if not isinstance(payload, dict):
            raise InvalidToken
        return read(payload, issuer=self._issuer, audience=self._audience, now=self._now())
