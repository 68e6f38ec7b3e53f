"""Service levels: what a run has to keep."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from loadtests.figures import OVER_LIMIT, Figures

SHARES = ("error_share", "limited_share", "limited_share_min")
RATE = "requests_per_second"


def times(event: str) -> tuple[str, ...]:
    """The measures of an event's times: "ttft_p95_ms" is 95 % of the times to first text."""
    return tuple(f"{event}_p{percent}_ms" for percent in (50, 95, 99))


@dataclass(frozen=True)
class Level:
    """One figure that has to be kept; `key` is how the user wrote it. A `kind` of None is all kinds together.

    A level of a time that may go unmeasured is `optional`.
    """

    key: str
    kind: str | None
    measure: str
    allowed: float
    optional: bool = False

    def broken(self, measured: Figures) -> str | None:
        """What was not kept, in one sentence."""
        if self.measure in SHARES:
            return self._share(measured)
        return self._rate(measured) if self.measure == RATE else self._time(measured)

    def _share(self, measured: Figures) -> str | None:
        error = self.measure == "error_share"
        part = measured.failures(self.kind) if error else measured.limited(self.kind)
        whole = measured.wanted(self.kind) if error else measured.limited_of(self.kind)
        share = part / whole if whole else 0.0
        at_least = self.measure.endswith("_min")
        if share >= self.allowed if at_least else share <= self.allowed:
            return None
        name = "error share" if error else "share of 429"
        bound = "allowed is no less than" if at_least else "allowed are"
        return f"{self.key}: {name} is {share:.4f} ({part} of {whole}), {bound} {self.allowed:g}"

    def _rate(self, measured: Figures) -> str | None:
        rate = measured.rate(self.kind)
        if rate >= self.allowed:
            return None
        return f"{self.key}: {rate:.2f} requests/s were reached, allowed is no less than {self.allowed:g}"

    def _time(self, measured: Figures) -> str | None:
        event, percent, _ = self.measure.rsplit("_", 2)
        found = measured.time(self.kind or "", event, int(percent[1:]) / 100)
        if found is None:
            return None if self.optional else f"{self.key}: no {self.kind} {event} was measured"
        if found <= self.allowed:
            return None
        return f"{self.key}: {percent} of {self.kind} {event} is {found:.0f} ms, allowed are {self.allowed:g} ms"


def broken(levels: Iterable[Level], measured: Figures) -> list[str]:
    """One sentence for each level that was not kept. A run that measured nothing keeps none."""
    met = measured.limited(OVER_LIMIT)
    if measured.exchanges() == 0 and met == 0:
        limited = measured.limited()
        told = f"; {limited} questions met a limit (429): give the users a higher one" if limited else ""
        return [f"no exchange was completed or failed, so nothing was measured{told}"]
    sentences = [sentence for level in levels if (sentence := level.broken(measured))]
    if (asked := measured.exchanges(OVER_LIMIT)) and not met:
        sentences.append(
            f"over_limit: none of {asked} questions met a 429, so no limit is kept, or theirs is not small"
        )
    return sentences
