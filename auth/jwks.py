"""The public keys of one outside issuer, read from its JWK set (RFC 7517 §5) and kept.

A stranger's server is at the other end: what it says is bounded, it can make no request here fail that its old keys can
answer, and nobody can make us ask it more often than once in a while, whatever tokens they send.
"""

import asyncio
import json
import re
import time
from base64 import urlsafe_b64decode
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp
import structlog
from cryptography.exceptions import UnsupportedAlgorithm
from jose import jwk
from jose.backends.base import Key
from jose.exceptions import JOSEError

from auth.errors import InvalidToken, IssuerUnavailable

log = structlog.get_logger()

ALGORITHMS: Final = ("RS256", "RS384", "RS512", "ES256", "ES384", "ES512")
TIMEOUT_S: Final = 3.0  # for the whole answer
MAX_BYTES: Final = 256 * 1024  # of a JWK set
MAX_KEYS: Final = 100  # of a JWK set; what comes after is not looked at
LEAST_BITS, MOST_BITS = 2048, 8192  # of an RSA modulus; a larger one only makes each check slower

_CURVES: Final = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521"}
_NUMBER: Final = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)

Fetch = Callable[[str], Awaitable[bytes]]


@dataclass(frozen=True)
class _Public:
    members: tuple[str, ...]
    key: Key = field(compare=False)  # python-jose's keys know no equality; the members say the same


class PublicKeys:
    """The keys of the JWK set at `url`, for `algorithms`; `version` grows whenever they change."""

    def __init__(
        self,
        url: str,
        algorithms: frozenset[str],
        *,
        fetch: Fetch | None = None,
        clock: Callable[[], float] = time.monotonic,
        fresh_s: float = 600.0,
        least_s: float = 10.0,
    ) -> None:
        """Keys older than `fresh_s` are fetched again, but never twice in `least_s`; both, and `clock`, are in seconds.

        `fetch` gives the body at a URL, or raises ValueError, OSError or TimeoutError.
        """
        self.version = 0
        self._url, self._algorithms, self._fetch, self._clock = url, algorithms, fetch or download, clock
        self._fresh_s, self._least_s = fresh_s, least_s
        self._keys: dict[str, dict[str, _Public]] = {}
        self._asked_at: float | None = None
        self._fetched_at: float | None = None
        self._fetching: asyncio.Task[None] | None = None

    async def key(self, kid: str, alg: str) -> Key:
        """Give the key of that id, made for `alg`.

        Raises InvalidToken when the issuer has no such key, IssuerUnavailable when it never told us its keys.
        """
        self.keep_fresh()
        if kid not in self._keys:
            # Waited for without being tied to it: a caller who goes away must not take the others' answer along.
            if (fetching := self._refresh()) is not None:
                await asyncio.wait([fetching])
            if self._fetched_at is None:
                raise IssuerUnavailable
        found = self._keys.get(kid, {}).get(alg)
        if found is None:
            raise InvalidToken
        return found.key

    def keep_fresh(self) -> None:
        """Have stale keys fetched again in the background; until that succeeds the old ones go on."""
        if self._fetched_at is not None and self._clock() - self._fetched_at >= self._fresh_s:
            self._refresh()

    async def close(self) -> None:
        """Cancel a fetch that is under way."""
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.wait([self._fetching])

    def _refresh(self) -> asyncio.Task[None] | None:
        """The fetch under way, or else a new one unless the last began less than `least_s` ago."""
        if self._fetching is None or self._fetching.done():
            now = self._clock()
            if self._asked_at is not None and now - self._asked_at < self._least_s:
                return None
            self._asked_at = now
            self._fetching = asyncio.create_task(self._load())
        return self._fetching

    async def _load(self) -> None:
        try:
            keys = parse(await self._fetch(self._url), self._algorithms)
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError, RecursionError) as error:
            log.warning("issuer_unavailable", url=self._url, reason=type(error).__name__)
            return
        self._fetched_at = self._clock()
        if keys != self._keys:
            self._keys = keys
            self.version += 1


async def download(url: str) -> bytes:
    """GET `url` within TIMEOUT_S, following no redirect; raises ValueError, OSError, TimeoutError or aiohttp.ClientError."""
    # What is compressed stays so, and is no JSON: a small body cannot unpack to a large one.
    headers = {"Accept": "application/jwk-set+json, application/json", "Accept-Encoding": "identity"}
    body = bytearray()
    async with (
        aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=TIMEOUT_S),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            auto_decompress=False,
        ) as session,
        session.get(url, headers=headers, allow_redirects=False) as response,
    ):
        if response.status != 200:
            raise ValueError(f"status {response.status}")
        async for chunk in response.content.iter_any():
            body += chunk
            if len(body) > MAX_BYTES:
                raise ValueError(f"more than {MAX_BYTES} bytes")
    return bytes(body)


def parse(body: bytes, algorithms: frozenset[str]) -> dict[str, dict[str, _Public]]:
    """Read a JWK set: id of a key -> algorithm -> key. A key that will not do is left out.

    Raises ValueError or RecursionError when the body is no JWK set at all.
    """
    document = json.loads(body)
    if not isinstance(document, dict) or not isinstance(document.get("keys"), list):
        raise ValueError("no JWK set")  # noqa: TRY004  # a wrong value from outside, not a mistake of the program
    found: dict[str, dict[str, _Public]] = {}
    for entry in document["keys"][:MAX_KEYS]:
        kid = entry.get("kid") if isinstance(entry, dict) else None
        if not isinstance(kid, str) or not kid:
            continue
        for alg in algorithms:
            # Two keys may share an id when their types differ (RFC 7517 §4.5); of the same type the first counts.
            if _meant_for(entry, alg) and alg not in found.get(kid, {}) and (public := _public(entry, alg)):
                found.setdefault(kid, {})[alg] = public
    return found


def _meant_for(entry: Mapping[str, Any], alg: str) -> bool:
    """Whether a JWK says of itself that it may check signatures of `alg` (RFC 7517 §4, RFC 7518 §6)."""
    operations = entry.get("key_ops", ["verify"])
    return (
        alg in ALGORITHMS  # nobody who configures HS256 here makes a public key a shared secret
        and entry.get("kty") == ("EC" if alg in _CURVES else "RSA")
        and entry.get("crv") == _CURVES.get(alg)
        and entry.get("use", "sig") == "sig"
        and isinstance(operations, list)
        and "verify" in operations
        and entry.get("alg", alg) == alg
        and "d" not in entry  # published with its private half, it proves nothing any more
    )


def _public(entry: Mapping[str, Any], alg: str) -> _Public | None:
    names = ("kty", "crv", "x", "y") if alg in _CURVES else ("kty", "n", "e")
    members = {name: entry.get(name) for name in names}
    if not all(isinstance(value, str) and _NUMBER.fullmatch(value) for value in members.values()):
        return None
    try:
        if alg not in _CURVES:
            modulus = int.from_bytes(urlsafe_b64decode(entry["n"] + "=="), "big")
            if not LEAST_BITS <= modulus.bit_length() <= MOST_BITS:
                return None
        return _Public(tuple(entry[name] for name in names), jwk.construct(members, alg))
    except (JOSEError, ValueError, TypeError, OverflowError, UnsupportedAlgorithm):
        return None  # numbers that are no key, such as a point that is not on the curve
