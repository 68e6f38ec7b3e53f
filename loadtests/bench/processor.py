"""How much of the processor processes have had, from /proc/PID/stat."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_USER, _SYSTEM = 11, 12  # places after the program's name: the ticks in it and in the kernel for it


def spent(pids: Iterable[int]) -> dict[int, float]:
    """Seconds of processor time by process since each began, all its threads together; those that have ended are missing."""
    found = {}
    for pid in pids:
        with suppress(OSError):
            # The name may hold blanks and parentheses; the last one closes it.
            fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            found[pid] = (int(fields[_USER]) + int(fields[_SYSTEM])) / _TICKS
    return found


def between(before: Mapping[int, float], after: Mapping[int, float]) -> float:
    """Seconds that the processes of both had from `before` to `after`."""
    return sum(seconds - before[pid] for pid, seconds in after.items() if pid in before)


def bound_to(cores: Iterable[int]) -> list[int]:
    """The processes that may run on exactly these cores."""
    wanted, found = set(cores), []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):  # it ended meanwhile
                if os.sched_getaffinity(int(entry.name)) == wanted:
                    found.append(int(entry.name))
    return found
