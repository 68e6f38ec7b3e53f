"""Service levels: what a run has to keep, and what was measured of it. Times are in milliseconds, as locust has them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

_COUNTED = (
    "login",
    "models",
    "total",
)  # one event for each thing a user wanted; ttft and inter_token are parts of those


class Entry(Protocol):
    """What is read of locust's statistics for one kind and name of event."""

    name: str
    method: str
    num_requests: int
    num_failures: int

    def get_response_time_percentile(self, percent: float) -> float:
        """The time within which that share (0 to 1) of the events ended."""
        ...


@dataclass(frozen=True)
class Figures:
    """What was measured: `p95` maps event names, as in "streamed total", to milliseconds."""

    exchanges: int = 0
    wanted: int = 0
    failures: int = 0
    p95: Mapping[str, float] = field(default_factory=dict)

    @property
    def error_share(self) -> float:
        """Failures among everything users wanted; 0 when they wanted nothing."""
        return self.failures / self.wanted if self.wanted else 0.0


@dataclass(frozen=True)
class Levels:
    """The most that is allowed; None is no level."""

    error_share: float | None = None
    ttft_p95: float | None = None
    inter_token_p95: float | None = None
    total_p95: float | None = None

    def broken(self, measured: Figures) -> list[str]:
        """One sentence for each level that was not kept. A run that measured nothing keeps none."""
        if measured.exchanges == 0:
            return ["no exchange was completed or failed, so nothing was measured"]
        sentences = []
        if self.error_share is not None and measured.error_share > self.error_share:
            counted = f"{measured.failures} of {measured.wanted}"
            sentences.append(f"error share is {measured.error_share:.4f} ({counted}), allowed are {self.error_share:g}")
        for name, most in self._times():
            found = measured.p95.get(name)
            if found is None and not name.endswith("total"):
                sentences.append(f"no {name} was measured, but a level is set for it")
            elif found is not None and found > most:
                sentences.append(f"p95 of {name} is {found:.0f} ms, allowed are {most:g} ms")
        return sentences

    def _times(self) -> list[tuple[str, float]]:
        names = {
            "streamed ttft": self.ttft_p95,
            "streamed inter_token": self.inter_token_p95,
            "streamed total": self.total_p95,
            "plain total": self.total_p95,
        }
        return [(name, most) for name, most in names.items() if most is not None]


def figures(entries: Iterable[Entry]) -> Figures:
    """Sum up locust's statistics."""
    kept = [entry for entry in entries if entry.num_requests]
    counted = [entry for entry in kept if entry.name in _COUNTED]
    return Figures(
        exchanges=sum(entry.num_requests for entry in counted if entry.name == "total"),
        wanted=sum(entry.num_requests for entry in counted),
        failures=sum(entry.num_failures for entry in counted),
        p95={f"{entry.method} {entry.name}": entry.get_response_time_percentile(0.95) for entry in kept},
    )
