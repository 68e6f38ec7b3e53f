"""The metrics of several workers as one: whichever of them is asked answers for all.

Each worker keeps its figures in files of one folder (prometheus_client's documentation, "Multiprocess Mode"), and holds a file of
its own locked. That is how a worker that has died, however it died, is told from a live one: its counts are added to those of all
who died before, so that no counter falls, and its gauges are removed.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from prometheus_client import Metric, values
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

_COUNTED: Final = ("counter", "histogram")
_NOBODY: Final = 0  # the process that has the counts of the dead


class Workers:
    """The figures of all workers; made by each before its first metric: a dead one may have had the same process id."""

    def __init__(self, where: Path) -> None:
        self._where = where
        self._own = os.open(where / f"{os.getpid()}.worker", os.O_WRONLY | os.O_CREAT, 0o600)
        fcntl.flock(self._own, fcntl.LOCK_EX)
        if values.ValueClass is not values.MutexValue:
            # By itself it asks the system at every count whether the process has forked meanwhile, which no worker does.
            process = os.getpid()
            values.ValueClass = values.MultiProcessValue(lambda: process)

    def collect(self, shown: Callable[[Metric, dict[str, str]], bool]) -> list[Metric]:
        """What all of them have counted and show now; `shown` says which value of a gauge is shown still."""
        with (self._where / "reading").open("wb") as reading:
            fcntl.flock(reading, fcntl.LOCK_EX)  # while a dead worker's counts move they are in two places
            for other in self._where.glob("*.worker"):
                with _held(other) as died:
                    if died:
                        self._bury(int(other.stem))
            metrics = list(
                MultiProcessCollector.merge([str(file) for file in self._where.glob("*.db") if _filled(file)])
            )
        for metric in metrics:
            if metric.type == "gauge":
                metric.samples = [sample for sample in metric.samples if shown(metric, sample.labels)]
        return metrics

    def _bury(self, process: int) -> None:
        mark_process_dead(process, str(self._where))
        for kind in _COUNTED:
            file = self._where / f"{kind}_{process}.db"
            if file.exists() and _filled(file):
                counts = MmapedDict(str(self._where / f"{kind}_{_NOBODY}.db"))
                for key, value, _, _ in MmapedDict.read_all_values_from_file(str(file)):
                    counts.write_value(key, counts.read_value(key)[0] + value, 0.0)
                counts.close()
                file.unlink()


def _filled(file: Path) -> bool:
    """Not so for a moment after it was made, or for ever, if its worker was killed in that moment."""
    return file.stat().st_size > 0


@contextmanager
def _held(file: Path) -> Iterator[bool]:
    """Whether its owner has died; meanwhile a new worker of the same process id waits."""
    with file.open("rb") as opened:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
        else:
            yield True
