"""Keys that are read one by one from a terminal, which is left as it was found."""

from __future__ import annotations

import os
import select
import sys
import termios
import time
from typing import Any, Self


class Keys:
    """A context. Without a terminal at its input there are no keys, and `pressed` only waits."""

    def __init__(self) -> None:
        self._input = sys.stdin.fileno() if sys.stdin is not None and sys.stdin.isatty() else None
        self._before: list[Any] | None = None

    def __enter__(self) -> Self:
        if self._input is not None:
            self._before = termios.tcgetattr(self._input)
            mode = termios.tcgetattr(self._input)
            mode[3] &= ~(termios.ICANON | termios.ECHO)
            # Ctrl-Z would leave the shell in our screen; Ctrl-C stays what it is.
            mode[6][termios.VSUSP] = b"\0"
            termios.tcsetattr(self._input, termios.TCSADRAIN, mode)
        return self

    def __exit__(self, *_: object) -> None:
        if self._input is not None and self._before is not None:
            termios.tcsetattr(self._input, termios.TCSADRAIN, self._before)

    def pressed(self, seconds: float) -> str:
        """What was pressed, as soon as there is something; empty after so many seconds without."""
        if self._input is None:
            time.sleep(seconds)
            return ""
        ready, _, _ = select.select([self._input], [], [], seconds)
        if not ready:
            return ""
        got = os.read(self._input, 64)
        if not got:  # the terminal is gone
            self._input = None
        return got.decode(errors="replace")
