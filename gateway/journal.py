"""The local journal: what was answered is on disk before the last byte leaves, whatever becomes of the process.

A worker appends JSON lines to a segment file it holds locked. Segments that are closed, and those whose writer died, are
given to the ledger's task, which puts their rows into the database and deletes them. A line survives `kill -9`; an operating
system that dies may lose the last second, since lines are not synced one by one.
"""

from __future__ import annotations

import fcntl
import os
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson
import structlog

log = structlog.get_logger()


class Journal:
    """The segments of one folder; one instance a process."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder = folder
        self._segment: Path | None = None
        self._descriptor = -1

    def append(self, rows: Iterable[dict[str, Any]]) -> None:
        """Write rows, in one system call; the caller need not wait for anything else."""
        if self._segment is None:
            self._open()
        os.write(self._descriptor, b"".join([orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in rows]))

    def finished(self) -> list[Path]:
        """Close the segment under way and list all that nobody writes to any more, oldest first."""
        self.close()
        segments = sorted(self._folder.glob("*.jsonl"), key=_written)
        return [segment for segment in segments if _unowned(segment)]

    def size(self) -> int:
        """The bytes that wait in the folder, those of other workers too."""
        return sum(stat.st_size for stat in self._stats())

    def age(self) -> float:
        """Seconds since something was written last to the segment that was left alone longest; 0 where nothing waits."""
        return max(0.0, time.time() - min((stat.st_mtime for stat in self._stats()), default=time.time()))

    def close(self) -> None:
        """Close the segment under way, if any."""
        if self._segment is not None:
            os.close(self._descriptor)
            self._segment = None

    def _stats(self) -> Iterator[os.stat_result]:
        for segment in self._folder.glob("*.jsonl"):
            with suppress(FileNotFoundError):  # drained meanwhile
                yield segment.stat()

    def _open(self) -> None:
        # Locked before it has a name that others look for, so that no other worker takes it for a dead one's.
        segment = self._folder / f"{uuid.uuid4().hex}.jsonl"
        unnamed = segment.with_suffix(".new")
        self._descriptor = os.open(unnamed, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        unnamed.rename(segment)
        self._segment = segment


def read(segment: Path) -> list[dict[str, Any]]:
    """The rows of a segment; a line cut by a crash or a full disk is left out, and a line in mid-file is logged."""
    rows = []
    for line in segment.read_bytes().split(b"\n")[:-1]:
        try:
            rows.append(orjson.loads(line))
        except orjson.JSONDecodeError:
            log.warning("journal_line_unreadable", segment=segment.name, size=len(line))
    return rows


def _written(segment: Path) -> float:
    try:
        return segment.stat().st_mtime
    except FileNotFoundError:  # a command has drained it meanwhile
        return 0.0


def _unowned(segment: Path) -> bool:
    # The lock goes when its holder dies, however it dies: that is how a killed worker's segment is told from a live one.
    try:
        with segment.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
