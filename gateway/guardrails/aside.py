"""Work of guards that nobody waits for, beside the requests."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from typing import Final

MOST: Final = 8  # pieces of work in line: each takes a tenth of a second or so


class Aside:
    """One thread. While so much is in line, more is let be: guards that only annotate have made their first findings already."""

    def __init__(self, most: int = MOST) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="guards-aside")
        self._most, self._given, self._done = most, 0, 0

    def do(self, work: Callable[[], None]) -> bool:
        """Have it done some time; whether it will be."""
        if self._given - self._done >= self._most:
            return False
        try:
            begun = self._thread.submit(copy_context().run, work)  # a line of the log then says for which request
        except RuntimeError:  # the system gives no thread, or the process ends
            return False
        self._given += 1
        begun.add_done_callback(self._ended)
        return True

    def _ended(self, _: Future[None]) -> None:
        self._done += 1  # of two such calls the first has ended before the second begins
