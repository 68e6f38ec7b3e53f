"""How often one address may ask, and how often passwords may be tried at one account.

slowapi, in its decorator form, counts the requests of an address: its middlewares miss included routers and break
streams. Its storage is synchronous: a remote one holds the event loop for a round trip, which is paid on the token
route alone, and for a quarter of a second when it is stalled.
"""

import hashlib
import ipaddress
import json
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, TypeVar

from limits import RateLimitItem, RateLimitItemPerMonth, parse_many
from limits.errors import ConfigurationError
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter, RateLimiter
from slowapi import Limiter

from auth.errors import BadConfiguration, TooManyLogins

STALL_S = 0.25  # the longest wait for one answer of a remote storage
RETRY_S = 30.0  # how long a storage that failed is left alone, so that not every login waits for it
KNOWN = RateLimitItemPerMonth(1)  # 30 days: how long an address is known after a login
MAX_KNOWN = 20_000  # pairs of account and address remembered by this process, a few hundred bytes each

Answer = TypeVar("Answer")
Setting = TypeVar("Setting")


class _Limiter(Limiter):
    def get_app_config(self, key: str, default_value: Setting = None) -> Setting:  # type: ignore[assignment]
        """Read no RATELIMIT_* variable or `.env` file: a stray one would switch the limit off."""
        return default_value


def limiter(rate: str, storage_uri: str, key: Callable[..., str], prefix: str = "passerelle") -> Limiter:
    """Make a limiter for rates like `10/minute; 100/hour`; `key` must have a parameter called `request`.

    Installations that share a storage have a `prefix` each.

    Raises BadConfiguration for a rate that cannot be read: slowapi itself would log it and limit nothing.
    """
    try:
        parse_many(rate)
        return _Limiter(
            key_func=key,
            storage_uri=storage_uri,
            storage_options=_options(storage_uri, prefix),
            strategy="moving-window",
            in_memory_fallback_enabled=not storage_uri.startswith("memory:"),  # a lost storage loosens, never opens
        )
    except (ValueError, ConfigurationError) as error:
        raise BadConfiguration(f"The login limit {rate!r} or its storage cannot be used: write 10/minute.") from error


def _options(storage_uri: str, prefix: str) -> dict[str, Any]:
    """For Redis or Valkey: how keys begin, and when it is given up, as a stalled one would hold the event loop for good."""
    if not storage_uri.startswith(("redis", "valkey")):
        return {}
    return {"key_prefix": prefix, "socket_timeout": STALL_S, "socket_connect_timeout": STALL_S}


def wait_s(limiter: Limiter, exceeded: tuple[RateLimitItem, list[str]]) -> int:
    """Give the whole seconds, at least 1, until one more request would pass."""
    item, identifiers = exceeded
    resets_at, _remaining = limiter.limiter.get_window_stats(item, *identifiers)  # seconds since 1970
    return max(1, math.ceil(resets_at - time.time()))


def network(host: str | None) -> str:
    """Give what counts as one address: the host, or the /64 of an IPv6 host, which is what one subscriber gets.

    Never empty, since slowapi skips the limit for an empty key; callers on a Unix socket share one.
    """
    try:
        address = ipaddress.ip_address(host or "")
    except ValueError:
        return host or "local"
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is None:
        return str(ipaddress.ip_network((address.packed[:8] + bytes(8), 64)))
    return str(getattr(address, "ipv4_mapped", None) or address)


class Throttle:
    """How often passwords may be tried at one account, without locking its owner out.

    Wrong passwords alone count, in moving windows: one for each account and address, and one for each account over all
    addresses. When the latter is full, somebody guesses from many addresses: an address that has logged in to this
    account within 30 days goes on as ever, and any other has a few tries. So nobody is refused because of what other
    addresses did, and the owner gets in from anywhere; NIST SP 800-63B-4 §3.2.2 names addresses that logged in before
    as a way not to lock the victim out, but its cap on the failures of an account, however slow, is not kept here.

    Tries count when they have failed: those that an address makes at the same instant pass together, and the limit on
    its requests bounds how many. A storage that fails is replaced by this process's memory for RETRY_S: limits loosen
    to one process, never open, and nothing is raised. The storage holds hashes of names and addresses.
    """

    def __init__(
        self,
        limiter: Limiter,
        *,
        per_pair: str = "5/minute",
        per_account: str = "50/hour",
        under_attack: str = "2/10 minutes",
    ) -> None:
        """`limiter` lends its storage; a rate is one window that lets at least one try pass, else BadConfiguration."""
        self._pair, self._account, self._attacked = _window(per_pair), _window(per_account), _window(under_attack)
        self._shared: RateLimiter = limiter.limiter
        remote = not isinstance(self._shared.storage, MemoryStorage)
        self._own = MovingWindowRateLimiter(MemoryStorage()) if remote else self._shared
        self._retry_at = 0.0  # monotonic seconds; before that the shared storage is left alone
        self._known: OrderedDict[str, float] = OrderedDict()  # key → seconds since 1970 of the last login, oldest first

    def admit(self, address: str, account: str) -> None:
        """Raise TooManyLogins, which says when to come back, if this address has failed too often at this account.

        `address` is what `network` gives; `account` is the normalised user name, of a user or of nobody.
        """
        wait_s = self._ask(lambda windows: self._wait_s(windows, address, account))
        if wait_s:
            raise TooManyLogins(wait_s)

    def failed(self, address: str, account: str) -> None:
        """Count a wrong password, or one for a user who does not exist; never raises."""

        def count(windows: RateLimiter) -> None:
            windows.hit(self._pair, *_key("pair", account, address))
            windows.hit(self._attacked, *_key("attacked", account, address))  # before the attack is seen, too
            windows.hit(self._account, *_key("account", account))

        self._ask(count)

    def succeeded(self, address: str, account: str) -> None:
        """Remember for 30 days that this address knows the password; never raises, and counts nothing."""
        key = _key("known", account, address)
        self._known[key[1]] = time.time()  # here as well: it must outlive a lost storage
        self._known.move_to_end(key[1])
        if len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)

        def remember(windows: RateLimiter) -> None:
            if windows is not self._own:
                windows.clear(KNOWN, *key)  # a full window would keep the older login, and forget it sooner
                windows.hit(KNOWN, *key)

        self._ask(remember)

    def _wait_s(self, windows: RateLimiter, address: str, account: str) -> int:
        """Whole seconds until this address may try again; 0 for now."""
        wait_s = _full_s(windows, self._pair, _key("pair", account, address))
        attack = _full_s(windows, self._account, _key("account", account))
        if attack and not self._is_known(windows, _key("known", account, address)):
            wait_s = max(wait_s, _full_s(windows, self._attacked, _key("attacked", account, address)))
        return wait_s

    def _is_known(self, windows: RateLimiter, key: tuple[str, str]) -> bool:
        if time.time() - self._known.get(key[1], -math.inf) < KNOWN.get_expiry():
            return True
        return windows is not self._own and not windows.test(KNOWN, *key)

    def _ask(self, question: Callable[[RateLimiter], Answer]) -> Answer:
        """Put a question to the shared windows, or to this process's own while the shared ones do not answer."""
        started = time.monotonic()
        if self._shared is not self._own and started >= self._retry_at:
            try:
                answer = question(self._shared)
            except Exception:  # noqa: BLE001 -- whatever a storage raises, a login must neither fail nor go uncounted
                self._retry_at = time.monotonic() + RETRY_S
            else:
                if time.monotonic() - started > STALL_S:  # answers, but slowly: the next callers do not wait
                    self._retry_at = time.monotonic() + RETRY_S
                return answer
        return question(self._own)


def _window(rate: str) -> RateLimitItem:
    try:
        (window,) = parse_many(rate)
    except ValueError as error:
        raise BadConfiguration(f"The login limit {rate!r} cannot be read: write one like 5/minute.") from error
    if window.amount < 1 or window.get_expiry() < 1:
        raise BadConfiguration(f"The login limit {rate!r} would let nobody in: write one like 5/minute.")
    return window


def _key(kind: str, *parts: str) -> tuple[str, str]:
    """A name in the storage that shows neither accounts nor addresses; JSON, so that no text reads as two parts."""
    return f"login-{kind}", hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _full_s(windows: RateLimiter, window: RateLimitItem, key: tuple[str, str]) -> int:
    """Whole seconds until one more fits into a full window; 0 for one that has room."""
    resets_at, remaining = windows.get_window_stats(window, *key)  # seconds since 1970
    return 0 if remaining > 0 else max(1, math.ceil(resets_at - time.time()))
