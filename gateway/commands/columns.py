"""The columns of `passerelle top`, and which of them a narrow terminal goes without; docs/top.md says the same."""

from __future__ import annotations

from typing import Final

from gateway.commands.tables import Column

FACTS: Final = (
    "gateway",
    "up since",
    "version",
    "workers",
    "in flight",
    "French (1 min)",
    "at once/repaired/refused/foreign",
)
PACES: Final = (
    Column("requests/s", "req/s"),
    Column("errors/s", "err/s"),
    Column("refused/s", "ref/s"),
    Column("first text p50", "first p50"),
    Column("p95", leave=1),
    Column("tokens/s", "tok/s"),
)
TARGETS: Final = (
    Column("target", cut=True),
    Column("models", folds=True),
    Column("in flight", "inflight"),
    Column("waiting"),
    Column("limit"),
)
REPLICAS: Final = (
    Column("replica", cut=True),
    Column("address", leave=1),
    Column("breaker"),
    Column("probes"),
    Column("ours", leave=5),
    Column("running", "run", leave=3),
    Column("waiting", "wait"),
    Column("KV cache", "KV", leave=4),
    Column("tokens/s", "tok/s", leave=2),
)
LIMITS: Final = (
    Column("limit of"),
    Column("name", cut=True),
    Column("tenant", leave=3),
    Column("what"),
    Column("used"),
    Column("of"),
    Column("", leave=2),
    Column("until", leave=1),
)
REQUESTS: Final = (
    Column("request", first=13, leave=4),
    Column("tenant", cut=True),
    Column("model", cut=True),
    Column("target", leave=1),
    Column("state"),
    Column("seconds"),
    Column("tokens", leave=2),
)
