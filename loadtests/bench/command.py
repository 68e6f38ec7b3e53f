"""What the commands of the long benchmarks have in common: lists of numbers, how they run and are stopped, what they write."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

import uvloop

Found = TypeVar("Found")
STOPPED: Final = 130  # the exit code of a command that was broken off


def numbers(text: str) -> list[int]:
    """Numbers above 0 with commas between them, each once, the least first: a type for argparse."""
    try:
        found = sorted({int(each) for each in text.split(",")})
    except ValueError:
        found = []
    if not found or found[0] < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of numbers above 0, as 1,2,4,8")
    return found


def measured(work: Coroutine[Any, Any, Found]) -> Found | None:
    """What `work` finds; None, and a word on stderr, if Ctrl-C or SIGTERM ended it before. It is cancelled then, to tidy up."""
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_until_told(work))
    except (KeyboardInterrupt, asyncio.CancelledError):
        sys.stderr.write("stopped: nothing is written\n")
        return None


async def _until_told(work: Coroutine[Any, Any, Found]) -> Found:
    if (own := asyncio.current_task()) is not None:  # servers that are halted would never end by themselves
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, own.cancel)
    return await work


def as_json(found: Any) -> str:
    """What goes into a file of figures."""
    return json.dumps(found, indent=2) + "\n"
