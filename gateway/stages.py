"""The stages of the pipeline, built once by `app` and handed to every request."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from gateway.estimates import Estimates
from gateway.exchange import Exchange
from gateway.guardrails.guards import Guards
from gateway.judge import Judge
from gateway.ledger import Ledger
from gateway.limits.quotas import Quotas
from gateway.live import Live
from gateway.reckoning import Reckoner
from gateway.routing import Catalogue
from gateway.settings import Settings
from gateway.upstream import Upstream


@dataclass(frozen=True)
class Stages:
    """`observe` is told of each exchange that has ended; `clock` is a monotonic clock in seconds."""

    settings: Settings
    catalogue: Catalogue
    upstream: Upstream
    guards: Guards
    judge: Judge
    quotas: Quotas
    estimates: Estimates
    reckoner: Reckoner
    ledger: Ledger
    observe: Callable[[Exchange], None]
    clock: Callable[[], float] = time.monotonic
    live: Live = field(default_factory=Live)
