"""How busy a replica is: our own requests, and three figures of vLLM's metrics, read every so often and believed while fresh."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from statistics import fmean
from typing import Final

import structlog
from prometheus_client.parser import text_string_to_metric_families

log = structlog.get_logger()

_RUNNING: Final = "vllm:num_requests_running"
_WAITING: Final = "vllm:num_requests_waiting"
_CACHE: Final = "vllm:kv_cache_usage_perc"  # a share from 0 to 1 despite its name; gpu_cache_usage_perc in old versions
_NAMES: Final = (_RUNNING, _WAITING, _CACHE)
_GENERATED: Final = "vllm:generation_tokens_total"  # shown, and missed by nobody
_FRESH_ROUNDS: Final = 3  # figures are stale when as many rounds have brought none


class WrongNames(ValueError):
    """The server has metrics, but not the ones that are read here."""


@dataclass(frozen=True, slots=True)
class Figures:
    """Requests that are computed and that wait, over all engines of the server; `cache` is the mean share of KV cache in use.

    `generated` are the tokens of all answers since the server's start, None where it does not say.
    """

    running: float
    waiting: float
    cache: float
    generated: float | None = None


def parse(text: str) -> Figures:
    """The figures in a text of Prometheus' format.

    Raises:
        WrongNames: at least one is not there.
        ValueError: it is no such text, or a figure is no number from 0 up.
    """
    # vLLM shows hundreds of lines; only ours are worth parsing, and samples need no TYPE line.
    ours = "".join(f"{line}\n" for line in text.splitlines() if line.startswith((*_NAMES, _GENERATED)))
    found: dict[str, list[float]] = {name: [] for name in (*_NAMES, _GENERATED)}
    for family in text_string_to_metric_families(ours):
        for sample in family.samples:
            if sample.name in found:
                found[sample.name].append(sample.value)
    if missing := [name for name in _NAMES if not found[name]]:
        raise WrongNames(f"no {', '.join(missing)} among its metrics")
    if not all(0 <= value < float("inf") for values in found.values() for value in values):
        raise ValueError("a figure that is no number from 0 up")
    generated = sum(found[_GENERATED]) if found[_GENERATED] else None
    return Figures(sum(found[_RUNNING]), sum(found[_WAITING]), fmean(found[_CACHE]), generated)


class Load:
    """The load of one replica: `in_flight` counts our own requests, `problem` is why its metrics cannot be used, if so."""

    def __init__(self, target: str, replica: int, seconds: float, clock: Callable[[], float]) -> None:
        """`seconds` is the time between two readings, `clock` a monotonic clock."""
        self._target, self._clock = target, clock
        self.adjust(replica, seconds)
        self._figures: Figures | None = None
        self._taken, self._own_then = float("-inf"), 0
        self.in_flight = 0
        self.problem: str | None = None

    def adjust(self, replica: int, seconds: float) -> None:
        """Go on at another place of the configuration, or read at other times."""
        self._log = log.bind(target=self._target, replica=replica)
        self._lifetime = seconds * _FRESH_ROUNDS

    def figures(self) -> Figures | None:
        """The last figures, or None when they are stale."""
        return self._figures if self._clock() - self._taken <= self._lifetime else None

    def blind(self) -> bool:
        """Whether requests are spread without the replica's metrics: they cannot be used, or have ceased to come."""
        return self.problem is not None or (self._taken > float("-inf") and self.figures() is None)

    def others(self) -> float | None:
        """What the replica has to do beside our own requests, in requests; None when its figures are stale.

        Our own were among its figures, and are known by now better than by then. The share of the cache is less than a
        request: it decides between replicas that are alike otherwise.
        """
        if (figures := self.figures()) is None:
            return None
        return max(0.0, figures.running + figures.waiting - self._own_then) + figures.cache

    def take(self, text: str | None) -> None:
        """Read what the server showed; None is a server that showed nothing."""
        if text is None:
            return
        try:
            self._figures, self._taken, self._own_then = parse(text), self._clock(), self.in_flight
        except ValueError as error:
            self._tell(str(error))
        else:
            self._tell(None)

    def _tell(self, problem: str | None) -> None:
        # Once, not every second; the server goes on being asked, by the gateway's own counts alone.
        if problem is not None and problem != self.problem:
            self._log.error("metrics_unusable", reason=problem)
        self.problem = problem


async def watch(
    loads: Iterable[tuple[str, Load]], read: Callable[[str], Awaitable[str | None]], seconds: float
) -> None:
    """Read every server's metrics by its URL, for ever; `read` gives None where there are none and never raises."""
    pairs = list(loads)
    while True:
        texts = await asyncio.gather(*(read(url) for url, _ in pairs))
        for (_, load), text in zip(pairs, texts, strict=True):
            load.take(text)
        await asyncio.sleep(seconds)
