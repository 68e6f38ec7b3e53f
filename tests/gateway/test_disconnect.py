import asyncio
from contextlib import suppress

import pytest

from gateway.disconnect import ClientClosed, unless_disconnected


class Client:
    """An ASGI client that is there until it `leaves`."""

    def __init__(self) -> None:
        self.leaves = asyncio.Event()

    async def receive(self) -> dict[str, str]:
        await self.leaves.wait()
        return {"type": "http.disconnect"}


def cancelling() -> int:
    task = asyncio.current_task()
    assert task is not None
    return task.cancelling()


async def test_work_whose_client_leaves_is_cancelled_and_has_cleaned_up() -> None:
    client, cleaned = Client(), False

    async def work() -> None:
        nonlocal cleaned
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned = True

    asyncio.get_running_loop().call_soon(client.leaves.set)
    with pytest.raises(ClientClosed):
        await unless_disconnected(client.receive, work())
    assert (cleaned, cancelling()) == (True, 0)


async def test_a_cancel_of_the_server_s_is_no_client_s() -> None:
    client = Client()
    task = asyncio.create_task(unless_disconnected(client.receive, asyncio.sleep(60)))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("turns", range(6))
async def test_a_client_that_leaves_as_the_work_ends_cancels_nothing_that_comes_after(turns: int) -> None:
    client, loop = Client(), asyncio.get_running_loop()
    done = loop.create_future()

    def after(turn: int) -> None:
        if turn:
            loop.call_soon(after, turn - 1)
        elif not done.done():
            done.set_result(None)

    async def work() -> None:
        await done

    loop.call_soon(client.leaves.set)
    loop.call_soon(after, turns)
    with suppress(ClientClosed):
        await unless_disconnected(client.receive, work())
    for _ in range(5):
        await asyncio.sleep(0)  # would raise here
    assert cancelling() == 0
