"""Ids of requests and of their records: 32 hexadecimal digits, eight of the time and 24 by chance.

They begin with the time, so that those of one moment lie beside each other in the ledger's indexes: of random ones every row
touches a page of its own in each, and the larger the table is the longer they take to write. The time is that in milliseconds, as
far as eight digits go: they begin anew after seven weeks, and whoever sees but how an id begins can tell two requests apart.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable


def new(now: Callable[[], int] = time.time_ns) -> str:
    """An id that no other process makes. `now` gives nanoseconds since 1970."""
    return f"{now() // 1_000_000 & 0xFFFF_FFFF:08x}{os.urandom(12).hex()}"
