"""Tokens of outside issuers (OpenID Connect providers): checked by the keys they publish, read in terms of ours.

As with our own tokens, python-jose is asked for one thing, a signature by one algorithm and one key, and all else is
checked here.
"""

import asyncio
import hashlib
import json
import re
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from jose import jws
from jose.exceptions import JOSEError

from auth.claims import LEEWAY_S
from auth.errors import BadConfiguration, InvalidToken
from auth.jwks import ALGORITHMS, Fetch, PublicKeys
from auth.principal import Principal
from auth.tokens import MAX_TOKEN_BYTES

REMEMBER_S: Final = 300  # the longest that a verified token is not looked at again

_COMPACT: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+", re.ASCII)  # RFC 7515 §7.1, no JWE
_TYPES: Final = frozenset({"jwt", "at+jwt", "application/jwt", "application/at+jwt"})  # RFC 7519 §5.1, RFC 9068 §2.1

# Members that change what is signed or how (RFC 7515 §4.1.11, RFC 7797, RFC 7516 §4.1.3), or bring a key along.
_REFUSED: Final = frozenset({"crit", "b64", "zip", "jku", "jwk", "x5u"})


@dataclass(frozen=True)
class Issuer:
    """One outside issuer, and what its tokens are worth here.

    `tenant` is that of all its callers; or else `tenant_claim` names the claim that says it, which must be one of
    `tenants`. `scopes` maps values of the claim `scope_claim` to scopes of ours, `default_scopes` everyone has. A claim is
    named as it stands, or by a path whose dots go into objects: `realm_access.roles`.
    """

    name: str
    issuer: str
    audience: str
    jwks_url: str
    algorithms: frozenset[str]
    tenant: str | None
    tenant_claim: str | None
    tenants: frozenset[str]
    scope_claim: str
    scopes: Mapping[str, frozenset[str]]
    default_scopes: frozenset[str]
    may_leave: bool
    requests_per_minute: int | None

    def __post_init__(self) -> None:
        """Raise BadConfiguration for an issuer whose tokens could not be told apart or checked."""
        if not self.name or ":" in self.name:  # or `a:b` of one issuer and `b` of another could be the same subject
            raise BadConfiguration(f"The name of an issuer is a word without a colon, not {self.name!r}.")
        if not self.algorithms or not self.algorithms <= set(ALGORITHMS):
            raise BadConfiguration(f"The algorithms of issuer {self.name!r} must be some of {', '.join(ALGORITHMS)}.")
        if (self.tenant is None) == (self.tenant_claim is None):
            raise BadConfiguration(f"Issuer {self.name!r} needs either a tenant or a claim that names it.")


@dataclass(frozen=True, slots=True)
class _Verified:
    principal: Principal
    until: float
    keys: PublicKeys
    version: int


class OutsideTokens:
    """Verifies access tokens of the issuers that are configured (JWT, RFC 7519; RFC 9068 where they keep to it)."""

    def __init__(
        self,
        issuers: Iterable[Issuer],
        *,
        fetch: Fetch | None = None,
        now: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
        remember: int = 10_000,
    ) -> None:
        """`now` gives seconds since 1970, `clock` is for intervals, `fetch` as in PublicKeys.

        `remember` bounds how many verified tokens are kept, oldest dropped first. Raises BadConfiguration when two issuers
        have the same name or identifier.
        """
        every = list(issuers)
        self._issuers = {
            one.issuer: (one, PublicKeys(one.jwks_url, one.algorithms, fetch=fetch, clock=clock)) for one in every
        }
        if len(self._issuers) < len(every) or len({one.name for one in every}) < len(every):
            raise BadConfiguration("Two outside issuers have the same name or the same identifier.")
        self._now, self._remember = now, remember
        self._verified: OrderedDict[bytes, _Verified] = OrderedDict()

    def speaks_for(self, token: str) -> bool:
        """Whether the token says that one of these issuers issued it; nothing is verified yet, and nothing is raised."""
        try:
            return _parts(token)[1].get("iss") in self._issuers
        except (InvalidToken, TypeError):  # TypeError: an `iss` that cannot be a key, such as a list
            return False

    async def verify(self, token: str) -> Principal:
        """Give whom a token speaks for that holds now.

        Any other string raises InvalidToken; only when the issuer it names never told us its keys, IssuerUnavailable.
        """
        if len(token) > MAX_TOKEN_BYTES or not token.isascii():
            raise InvalidToken
        digest = hashlib.sha256(token.encode()).digest()
        if known := self._verified.get(digest):
            known.keys.keep_fresh()  # or a key taken away would be noticed only when a new token comes
            if known.version == known.keys.version and self._now() < known.until:
                return known.principal
            del self._verified[digest]
        verified = await self._verify(token)
        self._verified[digest] = verified
        if len(self._verified) > self._remember:
            self._verified.popitem(last=False)
        return verified.principal

    @property
    def remembered(self) -> int:
        """How many verified tokens are kept at the moment."""
        return len(self._verified)

    def tenants(self) -> set[str]:
        """Every tenant that a token may be of."""
        return {
            name for one, _ in self._issuers.values() for name in (one.tenants if one.tenant is None else {one.tenant})
        }

    async def close(self) -> None:
        """Cancel what is being fetched in the background."""
        await asyncio.gather(*(keys.close() for _, keys in self._issuers.values()))

    async def _verify(self, token: str) -> _Verified:
        header, payload = _parts(token)
        named = payload.get("iss")
        if not isinstance(named, str) or named not in self._issuers:
            raise InvalidToken
        issuer, keys = self._issuers[named]  # which checks `iss`: only its own keys are tried below
        alg, kid = _checked(header, issuer.algorithms)
        key = await keys.key(kid, alg)
        version = keys.version  # nothing was awaited since the key was found: it is one of this version
        try:
            jws.verify(token, key, [alg])  # of the very text that the payload was read from
        except (JOSEError, ValueError, RecursionError) as error:
            raise InvalidToken from error
        now = self._now()
        expires = _times(payload, now)
        return _Verified(_principal(payload, issuer), min(expires, now + REMEMBER_S), keys, version)


def _parts(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and payload, both objects, unverified; raises InvalidToken and nothing else."""
    if len(token) > MAX_TOKEN_BYTES or _COMPACT.fullmatch(token) is None:
        raise InvalidToken
    try:
        header, payload, _ = (_decoded(part) for part in token.split("."))
        read = json.loads(header), json.loads(payload)
    except (ValueError, RecursionError) as error:  # RecursionError: JSON nested thousands deep
        raise InvalidToken from error
    if not isinstance(read[0], dict) or not isinstance(read[1], dict):
        raise InvalidToken
    return read


def _decoded(part: str) -> bytes:
    data = urlsafe_b64decode(part + "=" * (-len(part) % 4))
    # The last character may have bits to spare, which must be zero, or one signature could be spelt several ways.
    if urlsafe_b64encode(data).rstrip(b"=") != part.encode():
        raise ValueError("not canonical base64url")
    return data


def _checked(header: Mapping[str, Any], algorithms: frozenset[str]) -> tuple[str, str]:
    """The algorithm and the id of the key, from a header that asks for nothing else."""
    alg, kid, kind = header.get("alg"), header.get("kid"), header.get("typ", "JWT")
    if not _REFUSED.isdisjoint(header) or not isinstance(kind, str) or kind.lower() not in _TYPES:
        raise InvalidToken
    if not isinstance(alg, str) or alg not in algorithms or not isinstance(kid, str) or not 1 <= len(kid) <= 255:
        raise InvalidToken
    return alg, kid


def _times(payload: Mapping[str, Any], now: float) -> float:
    """When the token expires, in seconds since 1970; raises InvalidToken unless it holds at `now`."""
    expires, issued = _seconds(payload, "exp"), _seconds(payload, "iat")
    not_before = _seconds(payload, "nbf") if "nbf" in payload else issued
    if now >= expires or max(issued, not_before) > now + LEEWAY_S:
        raise InvalidToken
    return expires


def _seconds(payload: Mapping[str, Any], name: str) -> float:
    value = payload.get(name)
    # True is an int to Python, NaN is less than nothing, and an int beyond 64 bits is no time and may fit no float.
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 2**63:
        raise InvalidToken
    return float(value)


def _principal(payload: Mapping[str, Any], issuer: Issuer) -> Principal:
    audience, subject = payload.get("aud"), payload.get("sub")
    meant_for = audience if isinstance(audience, list) else [audience]
    if issuer.audience not in meant_for or not all(isinstance(one, str) for one in meant_for):
        raise InvalidToken
    # Printable: half a surrogate pair or a NUL, which JSON can spell, would break the database or the log later on.
    if not isinstance(subject, str) or not 1 <= len(subject) <= 255 or not subject.isprintable():
        raise InvalidToken
    return Principal(
        subject=f"{issuer.name}:{subject}",
        tenant=_tenant(payload, issuer),
        scopes=_scopes(payload, issuer),
        kind="outside",
        may_leave=issuer.may_leave,
        requests_per_minute=issuer.requests_per_minute,
    )


def _tenant(payload: Mapping[str, Any], issuer: Issuer) -> str:
    if issuer.tenant is not None:
        return issuer.tenant
    tenant = _claim(payload, issuer.tenant_claim or "")
    if not isinstance(tenant, str) or tenant not in issuer.tenants:
        raise InvalidToken
    return tenant


def _scopes(payload: Mapping[str, Any], issuer: Issuer) -> frozenset[str]:
    said = _claim(payload, issuer.scope_claim)
    words = said.split() if isinstance(said, str) else said
    if said is None:  # an issuer may leave out the claim of a caller who has nothing
        words = []
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise InvalidToken
    return issuer.default_scopes.union(*(issuer.scopes.get(word, frozenset()) for word in words))


def _claim(payload: Mapping[str, Any], path: str) -> object:
    """A claim by its name or path, None when there is none; names that are URLs have dots of their own."""
    if path in payload:
        return payload[path]
    value: object = payload
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value
