"""Gauges that are asked for their values when somebody looks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from prometheus_client import CollectorRegistry, Gauge

# What several workers show together: the sum of what each has, or the worst of it.
Together = Literal["livesum", "livemax", "livemin"]


class Asked:
    """A gauge with labels, whose values come from those who are watched."""

    def __init__(
        self, name: str, says: str, labels: list[str], together: Together, *, registry: CollectorRegistry, several: bool
    ) -> None:
        """`several`: other workers' figures are shown with this one's."""
        self.name, self._labels, self._several = name, labels, several
        self.gauge = Gauge(name, says, labels, registry=registry, multiprocess_mode=together)
        self._values: dict[tuple[str, ...], Callable[[], float]] = {}

    def watch(self, ask: Callable[[], float], *labels: str) -> None:
        """Show what `ask` says."""
        self._values[labels] = ask

    def clear(self) -> None:
        """Show nothing until it is watched."""
        self._values.clear()
        if not self._several:  # files cannot forget: `knows` says what of them is shown no more
            self.gauge.clear()

    def refresh(self) -> None:
        """Ask for every value."""
        for labels, ask in self._values.items():
            (self.gauge.labels(*labels) if labels else self.gauge).set(ask())

    def knows(self, labels: dict[str, str]) -> bool:
        """Whether anybody is watched under these labels."""
        return tuple(labels[name] for name in self._labels) in self._values
