"""The model server's log while it runs: kept short in memory, passed on, and read for how far the start has come."""

from __future__ import annotations

import re
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import IO

KEPT_LINES = 400

# What vLLM 0.24 to 0.32 writes on its way up, in order.
PHASES = (
    ("Resolved architecture", "reading the model's configuration"),
    ("Initializing a V1 LLM engine", "starting the worker"),
    ("Starting to load model", "loading weights"),
    ("KV cache size", "warming up"),
    ("Supported tasks", "opening the port"),
)

_MEANINGFUL = re.compile(r"\b(ERROR|Error|error:|Exception|Killed|CRITICAL|out of memory)\b|Error:")
_NOISE = re.compile(
    r"Traceback|^\s*File |During handling|\^\^\^|EngineDeadError|See root cause|Engine core initialization failed"
)


class Log:
    """Lines of one server over all its restarts. `file` and `echo` get every line, `echo` with `prefix`."""

    def __init__(self, file: Path | None, echo: Callable[[str], None] | None, prefix: str = "vllm | ") -> None:
        self.phase = "starting Python"
        self._file = file
        self._echo = echo
        self._prefix = prefix
        self._lines: deque[str] = deque(maxlen=KEPT_LINES)
        self._lock = threading.Lock()

    def read(self, stream: IO[str]) -> None:
        """Take in a process's output until it ends; meant for a thread of its own."""
        self.phase = "starting Python"
        if self._file:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with self._file.open("a", encoding="utf-8") as out:
                for line in stream:
                    out.write(line)
                    out.flush()
                    self._take(line.rstrip())
        else:
            for line in stream:
                self._take(line.rstrip())

    def _take(self, line: str) -> None:
        with self._lock:
            self._lines.append(line)
        for mark, phase in PHASES:
            if mark in line:
                self.phase = phase
        if self._echo:
            self._echo(self._prefix + line)

    def last_words(self, count: int = 4) -> str:
        """The lines that best say why it ended: errors without their tracebacks, else simply the last ones."""
        with self._lock:
            lines = [line for line in self._lines if line.strip()]
        telling = [line for line in lines if _MEANINGFUL.search(line) and not _NOISE.search(line)]
        return "\n".join(f"  {line[:300]}" for line in (telling or lines)[-count:])
