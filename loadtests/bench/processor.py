"""How much of the processor processes have had, from /proc/PID/stat."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_PARENT, _USER, _SYSTEM = (
    1,
    11,
    12,
)  # places after the program's name: who started it, the ticks in it and in the kernel for it


def spent(pids: Iterable[int]) -> dict[int, float]:
    """Seconds of processor time by process since each began, all its threads together; those that have ended are missing."""
    found = {}
    for pid in pids:
        if fields := _fields(pid):
            found[pid] = (int(fields[_USER]) + int(fields[_SYSTEM])) / _TICKS
    return found


def _fields(pid: int) -> list[str]:
    """What stands after its name, which may hold blanks and parentheses: the last one closes it. Nothing, if it has ended."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    return []


def between(before: Mapping[int, float], after: Mapping[int, float]) -> float:
    """Seconds that the processes of both had from `before` to `after`."""
    return sum(seconds - before[pid] for pid, seconds in after.items() if pid in before)


def everybody() -> list[int]:
    """The ids of all processes."""
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def bound_to(cores: Iterable[int]) -> set[int]:
    """The processes that may run on exactly these cores."""
    wanted, found = set(cores), set()
    for pid in everybody():
        with suppress(OSError):  # it ended meanwhile
            if os.sched_getaffinity(pid) == wanted:
                found.add(pid)
    return found


def families(pids: Iterable[int]) -> set[int]:
    """These and all that they have started, and those have started."""
    parents = {pid: int(fields[_PARENT]) for pid in everybody() if (fields := _fields(pid))}
    found: set[int] = set()
    more = set(pids)
    while more:
        found |= more
        more = {pid for pid, parent in parents.items() if parent in found} - found
    return found
