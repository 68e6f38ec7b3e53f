"""How much callers may use: the `[limits]` of the configuration."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

from pydantic import Field

from gateway.target import Count, Part

Bound = Annotated[int, Field(ge=0, le=2**53 - 1)]


Amount = Annotated[Decimal, Field(ge=0, le=9_000_000, allow_inf_nan=False)]


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
    addresses: dict[str, OwnBounds] = Field(default_factory=dict)
    keys: dict[str, OwnBounds] = Field(default_factory=dict)
    users: dict[str, OwnBounds] = Field(default_factory=dict)
    tenants: dict[str, OwnBounds] = Field(default_factory=dict)
    models: dict[str, OwnBounds] = Field(default_factory=dict)
