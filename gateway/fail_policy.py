"""What happens while something is away: the `[fail_policy]` of the configuration (docs/robustness.md)."""

from __future__ import annotations

from typing import Literal

from gateway.target import Part, Seconds


class FailPolicy(Part):
    """What happens while something is away.

    `redis`: each worker enforces its share of the limits (`degrade`), or nobody is served (`refuse`). `database_limits`: while
    nobody can say what was spent of a budget, its counter holds (`cached`), or whoever has one is not served (`refuse`). A guard
    that fails, or takes over `guard_seconds` for a piece of text, lets nothing through (`closed`) or everything (`open`).
    """

    redis: Literal["degrade", "refuse"] = "degrade"
    database_limits: Literal["cached", "refuse"] = "cached"
    enforcing_guards: Literal["closed", "open"] = "closed"
    annotating_guards: Literal["closed", "open"] = "open"
    guard_seconds: Seconds = 2
