"""Figures from what was measured: percentiles, and what stands in bench.json."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

NAMES = (
    *("direct", "bare", "bare_collecting", "passerelle_off", "passerelle_on", "passerelle_full"),
    *("litellm", "portkey"),
)
HEADLINE = (16, 16)  # tokens and connections of the figures that stand for all


def percentile(values: Sequence[float], percent: float) -> float:
    """The least value that at least so many percent are not above (nearest rank)."""
    ranked = sorted(values)
    return ranked[max(0, math.ceil(len(ranked) * percent / 100) - 1)]


@dataclass(frozen=True)
class Cell:
    """What the closed loop is run with."""

    stream: bool
    tokens: int
    connections: int

    @property
    def name(self) -> str:
        """As in bench.json."""
        return f"{'stream' if self.stream else 'plain'}, {self.tokens} tokens, {self.connections} connections"


@dataclass
class Measured:
    """Everything of one contestant: answers a second by cell, milliseconds at the fixed rate, megabytes."""

    rates: dict[Cell, list[float]] = field(default_factory=dict)
    plain: list[float] = field(default_factory=list)  # whole answers
    first: list[float] = field(default_factory=list)  # of streams: until the first word...
    inter_token: list[float] = field(default_factory=list)  # ... and from there to the end, by token
    rss: list[float] = field(default_factory=list)
    failed: int = 0

    def capacity(self, *, stream: bool) -> float:
        """The most answers of the headline's length a second, over the numbers of connections."""
        return max(
            median(rates) for cell, rates in self.rates.items() if cell.stream == stream and cell.tokens == HEADLINE[0]
        )


def slowest(measured: dict[str, Measured], *, stream: bool) -> float:
    """The capacity of the slowest contestant, answers a second."""
    return min(most for each in measured.values() if (most := each.capacity(stream=stream)) > 0)


def run_of(own: Measured, direct: Measured) -> dict[str, float]:
    """A contestant's line in bench.json; times are missing where no answer came."""
    tokens, connections = HEADLINE
    plain, stream = (own.rates[Cell(way, tokens, connections)] for way in (False, True))
    found = {
        "plain_rps": median(plain),
        "stream_tokens_per_s": tokens * median(stream),
        "rss_mb": median(own.rss),
    }
    if own.plain and direct.plain:
        found["added_p50_ms"] = percentile(own.plain, 50) - percentile(direct.plain, 50)
        found["added_p99_ms"] = percentile(own.plain, 99) - percentile(direct.plain, 99)
    if own.first and direct.first:
        found["added_ttft_ms"] = percentile(own.first, 50) - percentile(direct.first, 50)
        found["added_inter_token_ms"] = percentile(own.inter_token, 50) - percentile(direct.inter_token, 50)
    return {name: round(value, 3) for name, value in found.items()}


def report(measured: dict[str, Measured], rate: dict[str, float], machine: dict[str, Any]) -> dict[str, Any]:
    """bench.json. `rate` is that of the arrivals, plain and streamed, a second; without `direct` nothing can be added to it."""
    direct = measured["direct"]
    return {
        "machine": machine,
        "arrivals_per_s": rate,
        "runs": {name: run_of(own, direct) for name, own in measured.items()},
        "cells": {
            name: {cell.name: _cell(cell, rates) for cell, rates in own.rates.items()} for name, own in measured.items()
        },
        "failed": {name: own.failed for name, own in measured.items()},
    }


def _cell(cell: Cell, rates: Sequence[float]) -> dict[str, float]:
    times = cell.tokens if cell.stream else 1
    what = "tokens_per_s" if cell.stream else "requests_per_s"
    return {
        what: round(times * median(rates), 1),
        "least": round(times * min(rates), 1),
        "most": round(times * max(rates), 1),
    }
