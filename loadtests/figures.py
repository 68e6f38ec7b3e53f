"""What a run measured, by kind of question. Times are in milliseconds, as locust has them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

# One event for each thing a user wanted; ttft and inter_token are parts of those. `unsent` found no free user.
_WANTED = ("login", "models", "total", "unsent")
LIMITED = "limited"
TENANT = "tenant "  # these events say once more, for each tenant, what those of the kinds have said
OVER_LIMIT = "over_limit"


class Entry(Protocol):
    """What is read of locust's statistics for one kind and name of event."""

    name: str
    method: str
    num_requests: int
    num_failures: int

    def get_response_time_percentile(self, percent: float) -> float:
        """The time within which that share (0 to 1) of the events ended."""
        ...


class Figures:
    """Locust's statistics of a run that took `seconds`. A `kind` of None is all kinds together."""

    def __init__(self, entries: Iterable[Entry], seconds: float) -> None:
        self._entries = [entry for entry in entries if entry.num_requests]
        self._seconds = seconds

    def time(self, kind: str, event: str, share: float) -> float | None:
        """The milliseconds within which that share of the events ended; None when there were none."""
        found = self._of(kind, event)
        return found[0].get_response_time_percentile(share) if found else None

    def exchanges(self, kind: str | None = None) -> int:
        """Questions that were answered or failed; those that met a limit are neither."""
        return sum(entry.num_requests for entry in self._of(kind, "total"))

    def limited(self, kind: str | None = None) -> int:
        """Questions that met a limit: 429. All kinds together are without those that are there to meet one."""
        return sum(entry.num_requests for entry in self._of(kind, LIMITED) if kind or entry.method != OVER_LIMIT)

    def limited_of(self, kind: str | None = None) -> int:
        """What `limited` is a part of."""
        totals = sum(entry.num_requests for entry in self._of(kind, "total") if kind or entry.method != OVER_LIMIT)
        return totals + self.limited(kind)

    def wanted(self, kind: str | None = None) -> int:
        """What users wanted and no limit forbade, logins included."""
        return sum(entry.num_requests for entry in self._of(kind, *_WANTED))

    def failures(self, kind: str | None = None) -> int:
        """How much of that failed."""
        return sum(entry.num_failures for entry in self._of(kind, *_WANTED))

    def rate(self, kind: str | None = None) -> float:
        """Questions a second that were answered or refused as they had to be, over the whole run."""
        failed = sum(entry.num_failures for entry in self._of(kind, "total"))
        return (self.exchanges(kind) - failed) / self._seconds if self._seconds > 0 else 0.0

    def _of(self, kind: str | None, *names: str) -> list[Entry]:
        return [
            entry
            for entry in self._entries
            if entry.name in names and (entry.method == kind or (kind is None and not entry.method.startswith(TENANT)))
        ]
