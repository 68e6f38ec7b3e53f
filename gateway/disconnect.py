"""Stops work for a client that has left.

A handler is not cancelled when its client goes away (ASGI only tells it, by `http.disconnect`), so the work races against
that message.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from starlette.types import Receive


class ClientClosed(Exception):
    """The client closed its connection before the answer was whole."""


async def unless_disconnected(receive: Receive, work: Coroutine[Any, Any, None]) -> None:
    """Run `work` to its end, or cancel it when the client leaves.

    The request body must have been read before: `receive` then has nothing but the disconnect left to give.

    Raises:
        ClientClosed: the client left first; `work` has been cancelled and has cleaned up.
        CancelledError: so has it when the caller is cancelled.
    """
    task = asyncio.current_task()
    if task is None:
        raise RuntimeError("work is raced against its client within a task")
    cancelled_before, left, over = task.cancelling(), False, False

    def leave(_: asyncio.Task[None]) -> None:
        nonlocal left
        if not over:  # it may be called although it was removed: with the end of the work, in the same turn of the loop
            left = True
            task.cancel()

    # The work stays in the task of the request, as in asyncio.timeout: a second one would cost more than all else here.
    gone = asyncio.ensure_future(_disconnected(receive))
    gone.add_done_callback(leave)
    try:
        await work
    except asyncio.CancelledError:
        if left and task.uncancel() <= cancelled_before:
            raise ClientClosed from None
        raise
    finally:
        over = True
        gone.remove_done_callback(leave)
        gone.cancel()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
