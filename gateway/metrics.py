"""The gateway's metrics: what `counts` counts, and gauges of what is (docs/monitoring.md); those of all workers together."""

from __future__ import annotations

import asyncio
import platform
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, Protocol

from prometheus_client import CollectorRegistry, Gauge, Metric, disable_created_metrics, generate_latest

from gateway.counts import Counts
from gateway.gauges import Asked, Together
from gateway.multiprocess import Workers

_TICK_SECONDS: Final = 1.0
_PAGE: Final = 4096


class Queue(Protocol):
    """What is shown of a target's places: requests that have one, and requests that wait for one."""

    under_way: int
    waiting: int


class Metrics:
    """All metrics of one worker, in a registry of their own."""

    def __init__(self, folder: Path | None = None) -> None:
        """`folder` is where several workers have their figures (`metrics_folder.shared`)."""
        disable_created_metrics()  # a time for each counter, which no rule needs and several workers cannot have
        self._workers = Workers(folder) if folder is not None else None
        self.registry = CollectorRegistry()
        self.counts = Counts(self.registry)
        self._asked: dict[str, Asked] = {}
        self.in_flight = Gauge(
            "passerelle_requests_in_flight",
            "HTTP requests under way.",
            registry=self.registry,
            multiprocess_mode="livesum",
        )
        gauge = self._gauge
        state, target = "The breaker of a replica: 0 closed, 1 on trial, 2 open.", ["target", "replica"]
        self._replicas = gauge("replica_state", state, "livemax", target)
        self._down = gauge("replica_down", "1 while the probes of a replica fail.", "livemax", target)
        self._waiting = gauge("queue_waiting", "Requests that wait for a place at a target.", "livesum", target[:1])
        self._under_way = gauge("target_in_flight", "Requests that have a place at a target.", "livesum", target[:1])
        self._parts = gauge(
            "degraded",
            "1 while a part works without what it depends on (docs/robustness.md).",
            "livemax",
            ["part"],
        )
        self._dependencies = gauge(
            "dependency_up", "1 while what the gateway needs answers.", "livemin", ["dependency"]
        )
        self._journal = gauge("ledger_journal_bytes", "What waits to be moved into the database.", "livemax")
        self._age = gauge("ledger_journal_oldest_seconds", "How long the oldest of it has waited.", "livemax")
        self._good = gauge("config_last_reload_successful", "1 unless the last reload was refused.", "livemin")
        self._since = gauge("config_loaded_timestamp_seconds", "Since when the configuration holds.", "livemin")
        self._reloaded, self._loaded, self._lag = 1.0, time.time(), 0.0
        self._own_figures()

    def follow(self, first_targets: Mapping[str, str], outside: Iterable[str] = ()) -> None:
        """Go on with other published models, and without any target until it is watched. See `Counts.publish`."""
        self.counts.publish(first_targets, outside)
        for asked in (self._replicas, self._down, self._waiting, self._under_way):
            asked.clear()

    def watch_parts(self, parts: Iterable[str], down: Callable[[Any], bool]) -> None:
        """Show which parts work without what they depend on."""
        for part in parts:
            self._parts.watch(partial(down, part), part)

    def watch_queue(self, target: str, queue: Queue) -> None:
        """Show how many requests a target has and how many wait for it."""
        self._waiting.watch(lambda: queue.waiting, target)
        self._under_way.watch(lambda: queue.under_way, target)

    def watch(self, target: str, replica: int, state: Callable[[], int]) -> None:
        """Show a replica's state."""
        self._replicas.watch(state, target, str(replica))

    def watch_probes(self, target: str, replica: int, down: Callable[[], bool]) -> None:
        """Show whether a replica's probes fail."""
        self._down.watch(down, target, str(replica))

    def watch_dependencies(self, names: Iterable[str], up: Callable[[str], bool]) -> None:
        """Show whether what the gateway needs answers."""
        for name in names:
            self._dependencies.watch(partial(up, name), name)

    def watch_journal(self, size: Callable[[], int], age: Callable[[], float]) -> None:
        """Show how much of the ledger waits, in bytes, and for how long, in seconds."""
        self._journal.watch(size)
        self._age.watch(age)

    def reloaded(self, ok: bool) -> None:
        """Show how a reload of the configuration went."""
        self.counts.reloaded(ok=ok)
        self._reloaded = float(ok)
        if ok:
            self._loaded = time.time()

    async def run(self) -> None:
        """For ever: keep the gauges fresh for scrapes that other workers answer, and see how late this one's own loop is."""
        try:
            while True:
                if self._workers is not None:
                    self.refresh()
                began = time.monotonic()
                await asyncio.sleep(_TICK_SECONDS)
                self._lag = max(0.0, time.monotonic() - began - _TICK_SECONDS)
        finally:
            self.counts.settle()  # the others answer for a worker that has ended

    def refresh(self) -> None:
        """Ask all gauges, and put into the metrics what was counted beside them."""
        self.counts.settle()
        for asked in self._asked.values():
            asked.refresh()

    async def shown(self) -> bytes:
        """As `render`, out of the way of others where files have to be read."""
        self.refresh()
        return self._text() if self._workers is None else await asyncio.to_thread(self._text)

    def render(self) -> bytes:
        """The text format of Prometheus, version 0.0.4."""
        self.refresh()
        return self._text()

    def _text(self) -> bytes:
        if self._workers is None:
            return generate_latest(self.registry)
        together = CollectorRegistry()
        together.register(_Collected(self._workers.collect(self._shown)))
        return generate_latest(together)

    def _gauge(self, name: str, says: str, together: Together, labels: list[str] | None = None) -> Asked:
        made = Asked(
            f"passerelle_{name}",
            says,
            labels or [],
            together,
            registry=self.registry,
            several=self._workers is not None,
        )
        self._asked[made.name] = made
        return made

    def _own_figures(self) -> None:
        self._good.watch(lambda: self._reloaded)
        self._since.watch(lambda: self._loaded)
        self._gauge("workers", "Worker processes.", "livesum").watch(lambda: 1)
        lag = self._gauge("loop_lag_seconds", "How late the event loop was at its last look.", "livemax")
        lag.watch(lambda: self._lag)
        memory = self._gauge("resident_memory_bytes", "Memory of the workers.", "livesum")
        memory.watch(_resident)
        build = self._gauge("build_info", "1, for the versions at work.", "livemax", ["version", "python"])
        build.watch(lambda: 1, version("passerelle"), platform.python_version())

    def _shown(self, metric: Metric, labels: dict[str, str]) -> bool:
        asked = self._asked.get(metric.name)
        return asked is None or not labels or asked.knows(labels)


class _Collected:
    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> list[Metric]:
        return self._metrics


def _resident() -> int:
    try:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * _PAGE
    except OSError:  # not Linux
        return 0
