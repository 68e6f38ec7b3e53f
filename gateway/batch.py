"""What can be done a moment later is done together with others of its kind.

The figures and the log line of a request are nobody's to wait for; and where much goes on, many requests end in one turn of the
event loop. Together their lines take one system call, and a counter that all of them add to is written once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context
from typing import Generic, TypeVar

T = TypeVar("T")


class Batch(Generic[T]):
    """Gathers what comes in one turn of the event loop, and gives it on when that ends; without a loop, at once."""

    def __init__(self, take: Callable[[list[T]], None]) -> None:
        self._take = take
        self._items: list[T] = []

    def add(self, item: T) -> None:
        """Give on one more, soon; in a context of nobody's, as it may be another's that began it."""
        if not self._items:
            try:
                asyncio.get_running_loop().call_soon(self.flush, context=Context())
            except RuntimeError:
                self._take([item])
                return
        self._items.append(item)

    def flush(self) -> None:
        """Give on what there is now."""
        if self._items:
            items, self._items = self._items, []
            self._take(items)
