"""Who runs on which cores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import ceil
from typing import Any

_WORKERS_A_LOAD = 4  # that one process of callers can keep busy at most
_STORES = 2  # Redis and PostgreSQL have a core each where there is room


@dataclass(frozen=True)
class Cores:
    """`gateway` is for the most workers: fewer have the first of them. Stores and callers keep theirs throughout."""

    gateway: Sequence[int]
    stores: Sequence[int]
    callers: Sequence[int]

    def of(self, workers: int) -> Sequence[int]:
        """Those of a gateway of so many workers."""
        return self.gateway[:workers]

    def named(self) -> dict[str, Any]:
        """As in the JSON."""
        return {f"{name}_cores": list(cores) for name, cores in asdict(self).items()}


def fits(workers: int, cores: int) -> bool:
    """Whether so many workers can be measured: a core for each, one for the stores, and enough for their callers.

    A single worker can do with two, where stores and callers share one.
    """
    return cores - workers >= 1 + ceil(workers / _WORKERS_A_LOAD) or (workers, cores) == (1, 2)


def layout(allowed: Sequence[int], workers: int, *, loads: int | None = None, crowded: bool = False) -> Cores:
    """The cores of at most so many workers, which fit unless `crowded`: then the gateway leaves one core, if there are two."""
    own = min(workers, max(1, len(allowed) - 1)) if crowded else workers
    rest = list(allowed[own:]) or list(allowed)
    loads_wanted = loads or max(1, workers)
    if len(rest) == 1:
        stores, callers = rest, rest
    else:
        wide = len(rest) >= _STORES + max(2, ceil(workers / 2))
        count = _STORES if wide else 1
        stores, callers = rest[:count], rest[count:]
    if crowded:  # more processes of callers than cores may be asked for
        callers = [callers[number % len(callers)] for number in range(loads or len(callers))]
    return Cores(list(allowed[:own]), stores, callers[:loads_wanted])
