"""Ids of requests and of their records: UUIDs of version 7 (RFC 9562, section 5.7), as 32 hexadecimal digits.

They begin with the time, so that those of one moment lie beside each other in the ledger's indexes: of random ones every row
touches a page of its own in each, and the larger the table is the longer they take to write.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Final

_RANDOM: Final = (1 << 76) - 1 & ~(0b11 << 62)  # 74 bits, around those that say what it is
_VERSION: Final = 7 << 76 | 0b10 << 62


def new(now: Callable[[], int] = time.time_ns) -> str:
    """An id that no other process makes: the milliseconds since 1970, and 74 random bits. `now` gives nanoseconds."""
    random = int.from_bytes(os.urandom(10), "big") & _RANDOM
    return f"{now() // 1_000_000 << 80 | _VERSION | random:032x}"
