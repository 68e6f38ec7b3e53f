"""How many users there are, by time. Without locust, whose import changes the process it happens in."""

from __future__ import annotations

import math


def users_at(elapsed: float, users: int, ramp: float, hold: float) -> int | None:
    """How many users there are `elapsed` seconds into the run; None when it is over."""
    if elapsed >= ramp + hold:
        return None
    return users if elapsed >= ramp else max(1, math.ceil(users * elapsed / ramp))
