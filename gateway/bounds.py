"""How much callers may use: the `[limits]` of the configuration."""

from __future__ import annotations

import ipaddress
from decimal import Decimal
from typing import Annotated, Final

from pydantic import AfterValidator, Field

from gateway.target import Count, Part

SITE_BITS: Final = 64  # a home or a server has that many bits of IPv6 addresses for itself (RFC 6177)


def site_of(address: str) -> str:
    """What counts as one address: an IPv6 address's network of a site."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((parsed, SITE_BITS), strict=False))
    return str(parsed)


Bound = Annotated[int, Field(ge=0, le=2**53 - 1)]


Amount = Annotated[Decimal, Field(ge=0, le=9_000_000, allow_inf_nan=False)]


def _address(text: str) -> str:
    """As it is compared; a network of IPv6 that is one site stands for itself."""
    try:
        return site_of(str(ipaddress.ip_address(text.removesuffix(f"/{SITE_BITS}") if ":" in text else text)))
    except ValueError:
        raise ValueError("an address, or an IPv6 network of 64 bits, is wanted") from None


Address = Annotated[str, AfterValidator(_address)]


class Bounds(Part):
    """Limits of each thing of a kind; 0 is no limit.

    Minutes are any sixty seconds, days and months those of UTC. Money is in the currency of `[money]`.
    """

    requests_per_minute: Bound = 0
    tokens_per_minute: Bound = 0
    tokens_per_day: Bound = 0
    concurrent: Bound = 0
    money_per_month: Amount = Decimal(0)


class OwnBounds(Part):
    """Limits of one thing by its name; what is not given is as it is for its kind."""

    requests_per_minute: Bound | None = None
    tokens_per_minute: Bound | None = None
    tokens_per_day: Bound | None = None
    concurrent: Bound | None = None
    money_per_month: Amount | None = None


class Limits(Bounds):
    """What each caller may use: a user, a service client, or a tenant's own API key. A caller may carry a limit of its own.

    The tables below are the same for each address, API key, tenant and model, and for single ones of them by their names: users
    and keys by their ids. A request has to pass all of them. `answer_tokens` bounds an answer where neither the caller nor
    the target's context does, for callers whose tokens are counted.
    """

    requests_per_minute: Bound = 60
    max_choices: Annotated[int, Field(ge=1, le=128)] = 8
    answer_tokens: Count = 4096
    address: Bounds = Bounds()
    key: Bounds = Bounds()
    tenant: Bounds = Bounds()
    model: Bounds = Bounds()
    addresses: dict[Address, OwnBounds] = Field(default_factory=dict)
    keys: dict[str, OwnBounds] = Field(default_factory=dict)
    users: dict[str, OwnBounds] = Field(default_factory=dict)
    tenants: dict[str, OwnBounds] = Field(default_factory=dict)
    models: dict[str, OwnBounds] = Field(default_factory=dict)
