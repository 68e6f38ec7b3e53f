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
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnected(receive))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            await task
            return
        task.cancel()
        await asyncio.wait({task})
        if task.cancelled() or task.exception() is None:
            raise ClientClosed
        await task
    except asyncio.CancelledError:
        task.cancel()
        await asyncio.wait({task})
        raise
    finally:
        gone.cancel()
        task.cancel()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
