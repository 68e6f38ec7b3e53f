"""Stops work for a client that has left.

A handler is not cancelled when its client goes away (ASGI only tells it, by `http.disconnect`), so the work races against
that message. A server with the extension `GONE` tells it by a call instead, which needs no task to wait for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final

from starlette.types import Receive, Scope

# In a scope's `extensions` (ASGI specification, "Extensions"). Its `tell` takes what is to be called when the client leaves, or
# None once nobody cares any more.
GONE: Final = "passerelle.gone"


class ClientClosed(Exception):
    """The client closed its connection before the answer was whole."""


async def unless_disconnected(scope: Scope, receive: Receive, work: Coroutine[Any, Any, None]) -> None:
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

    def leave() -> None:
        nonlocal left
        # It may be called although nobody cares any more: with the end of the work, in the same turn of the loop.
        if not over:
            left = True
            task.cancel()

    # The work stays in the task of the request, as in asyncio.timeout: a second one would cost more than all else here.
    extension = scope.get("extensions", {}).get(GONE)
    tell = extension["tell"] if extension else _told_by(receive)
    tell(leave)
    try:
        await work
    except asyncio.CancelledError:
        if left and task.uncancel() <= cancelled_before:
            raise ClientClosed from None
        raise
    finally:
        over = True
        tell(None)


def _told_by(receive: Receive) -> Callable[[Callable[[], None] | None], None]:
    """The extension, for a server without it."""
    gone = asyncio.ensure_future(_disconnected(receive))

    def tell(leave: Callable[[], None] | None) -> None:
        if leave is None:
            gone.cancel()
        else:
            gone.add_done_callback(lambda _: leave())

    return tell


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
