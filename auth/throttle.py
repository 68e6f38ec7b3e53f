"""How often one address may ask: slowapi, in its decorator form.

Its middlewares miss included routers and break streams. Its storage is synchronous: a remote one holds the event loop
for a round trip, which is paid on the token route alone.
"""

import ipaddress
import math
import time
from collections.abc import Callable
from typing import TypeVar

from limits import RateLimitItem, parse_many
from limits.errors import ConfigurationError
from slowapi import Limiter

from auth.errors import BadConfiguration

Setting = TypeVar("Setting")


class _Limiter(Limiter):
    def get_app_config(self, key: str, default_value: Setting = None) -> Setting:  # type: ignore[assignment]
        """Read no RATELIMIT_* variable or `.env` file: a stray one would switch the limit off."""
        return default_value


def limiter(rate: str, storage_uri: str, key: Callable[..., str]) -> Limiter:
    """Make a limiter for rates like `10/minute; 100/hour`; `key` must have a parameter called `request`.

    Raises BadConfiguration for a rate that cannot be read: slowapi itself would log it and limit nothing.
    """
    try:
        parse_many(rate)
        return _Limiter(
            key_func=key,
            storage_uri=storage_uri,
            strategy="moving-window",
            in_memory_fallback_enabled=not storage_uri.startswith("memory:"),  # a lost storage loosens, never opens
        )
    except (ValueError, ConfigurationError) as error:
        raise BadConfiguration(f"The login limit {rate!r} or its storage cannot be used: write 10/minute.") from error


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
