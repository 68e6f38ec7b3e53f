"""A worker as its supervisor sees it: a process, and the pipe through which it says that it lives.

The supervisor stays small: nothing but the standard library is imported here.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

STARTING_SECONDS: Final = (
    120.0  # without a sign of life: reading tokenizers and other large files blocks a worker that starts
)
# What a process that starts hears only when it is ready to; SIGUSR2, which is for the supervisor, a worker never hears.
HELD: Final = frozenset({signal.SIGHUP, signal.SIGUSR2})


def python() -> list[str]:
    """How to start this Python again; it looks for modules in the working folder only where this process does."""
    here = {"", str(Path.cwd())}
    return [sys.executable, *([] if here.intersection(sys.path) else ["-P"])]


class Worker:
    """One process; `ready` once it accepts connections, with the `facts` it told."""

    def __init__(self, sockets: Sequence[int]) -> None:
        """Raises OSError where no process can be started: no memory, no Python."""
        interpreter = python()
        self._pipe, theirs = os.pipe()
        os.set_blocking(self._pipe, False)
        command = [*interpreter, "-m", "gateway.commands.worker", str(theirs), *map(str, sockets)]
        before = signal.pthread_sigmask(signal.SIG_BLOCK, HELD | {signal.SIGINT})
        try:
            self._process = subprocess.Popen(command, pass_fds=(theirs, *sockets))  # noqa: S603  # our own program
        except OSError:
            os.close(self._pipe)
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            os.close(theirs)
        self.pid = self._process.pid
        self.heard = time.monotonic()
        self.ready_since: float | None = None
        self.facts: dict[str, Any] = {}
        self.failure: str | None = None
        self.kill_at = float("inf")
        self._rest = b""

    def fileno(self) -> int:
        """The pipe, to wait for."""
        return self._pipe

    @property
    def ready(self) -> bool:
        """Whether it accepts connections."""
        return self.ready_since is not None

    def listen(self) -> None:
        """Take what it has said meanwhile."""
        with suppress(BlockingIOError):
            while data := os.read(self._pipe, 65_536):
                self.heard = time.monotonic()
                *lines, self._rest = (self._rest + data).split(b"\n")
                for line in lines:
                    self._take(line.decode())

    def _take(self, line: str) -> None:
        word, _, more = line.partition(" ")
        if word == "ready":
            self.ready_since, self.facts = time.monotonic(), json.loads(more)
        elif word == "failed":
            self.failure = more

    def silent(self, now: float, allowed: float) -> bool:
        """Whether it has given no sign of life for too long: `allowed` seconds once it is ready."""
        return now - self.heard > (allowed if self.ready else max(allowed, STARTING_SECONDS))

    def ended(self) -> str | None:
        """How it ended, in words; None while it lives."""
        code = self._process.poll()
        if code is None:
            return None
        self.listen()
        if self.failure is not None:
            return self.failure
        return f"exit code {code}" if code >= 0 else signal.Signals(-code).name

    def tell(self, number: signal.Signals) -> None:
        """Send a signal, if it lives."""
        if self._process.poll() is None:
            self._process.send_signal(number)

    def close(self) -> None:
        """Forget a process that has ended."""
        os.close(self._pipe)
