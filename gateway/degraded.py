"""Which parts of this process work without what they depend on: for a response header, a metric, and one log line each way."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, Literal

import structlog

log = structlog.get_logger()

Part = Literal["guards", "keys", "ledger", "limits", "metrics"]

PARTS: Final[tuple[Part, ...]] = ("guards", "keys", "ledger", "limits", "metrics")


class Degraded:
    """`clock` is a monotonic clock in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._until: dict[Part, float] = {}
        self._watched: dict[Part, Callable[[], bool]] = {}

    def mark(self, part: Part, *, down: bool, seconds: float = float("inf")) -> None:
        """Say that a part has lost what it depends on, until it is told otherwise or for so long; or has it again."""
        was = self.down(part)
        if down:
            self._until[part] = self._clock() + seconds
        else:
            self._until.pop(part, None)
        if was is not (now := self.down(part)):
            (log.warning if now else log.info)("degraded" if now else "recovered", part=part)

    def watch(self, part: Part, down: Callable[[], bool]) -> None:
        """Ask a part itself."""
        self._watched[part] = down

    def down(self, part: Part) -> bool:
        """Whether it is degraded now."""
        watched = self._watched.get(part)
        return self._clock() < self._until.get(part, float("-inf")) or (watched is not None and watched())

    def header(self) -> dict[str, str]:
        """What callers are told; nothing while all is well."""
        if not self._until and not any(down() for down in self._watched.values()):  # as nearly always
            return {}
        down = [part for part in PARTS if self.down(part)]
        return {"x-passerelle-degraded": ", ".join(down)} if down else {}
