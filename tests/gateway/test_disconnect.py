import asyncio
from contextlib import suppress
from typing import Any

import pytest

from gateway.disconnect import GONE, ClientClosed, unless_disconnected


class Client:
    """An ASGI client that is there until it leaves; a server with the `extension` tells it by a call."""

    def __init__(self, *, extension: bool) -> None:
        self._left = asyncio.Event()
        self._leave: Any = None
        self.scope: dict[str, Any] = {"extensions": {GONE: {"tell": self._tell}}} if extension else {}

    async def receive(self) -> dict[str, str]:
        await self._left.wait()
        return {"type": "http.disconnect"}

    def leaves(self) -> None:
        self._left.set()
        if self._leave is not None:
            self._leave()

    def _tell(self, leave: Any) -> None:
        self._leave = leave
        if leave is not None and self._left.is_set():
            asyncio.get_running_loop().call_soon(leave)


@pytest.fixture(params=[False, True], ids=["by a message", "by a call"])
def client(request: pytest.FixtureRequest) -> Client:
    return Client(extension=request.param)


def cancelling() -> int:
    task = asyncio.current_task()
    assert task is not None
    return task.cancelling()


async def test_work_whose_client_leaves_is_cancelled_and_has_cleaned_up(client: Client) -> None:
    cleaned = False

    async def work() -> None:
        nonlocal cleaned
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned = True

    asyncio.get_running_loop().call_soon(client.leaves)
    with pytest.raises(ClientClosed):
        await unless_disconnected(client.scope, client.receive, work())
    assert (cleaned, cancelling()) == (True, 0)


async def test_a_client_that_has_left_already_lets_no_work_begin_in_earnest(client: Client) -> None:
    reached = False

    async def work() -> None:
        nonlocal reached
        await asyncio.sleep(0.05)
        reached = True

    client.leaves()
    with pytest.raises(ClientClosed):
        await unless_disconnected(client.scope, client.receive, work())
    assert (reached, cancelling()) == (False, 0)


async def test_work_that_ends_at_once_is_not_followed_by_a_cancel(client: Client) -> None:
    async def work() -> None:
        raise ValueError("nothing to wait for")

    client.leaves()
    with pytest.raises(ValueError, match="nothing to wait for"):
        await unless_disconnected(client.scope, client.receive, work())
    for _ in range(5):
        await asyncio.sleep(0)  # would raise here
    assert cancelling() == 0


async def test_a_cancel_of_the_server_s_is_no_client_s(client: Client) -> None:
    task = asyncio.create_task(unless_disconnected(client.scope, client.receive, asyncio.sleep(60)))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("turns", range(6))
async def test_a_client_that_leaves_as_the_work_ends_cancels_nothing_that_comes_after(
    client: Client, turns: int
) -> None:
    loop = asyncio.get_running_loop()
    done = loop.create_future()

    def after(turn: int) -> None:
        if turn:
            loop.call_soon(after, turn - 1)
        elif not done.done():
            done.set_result(None)

    async def work() -> None:
        await done

    loop.call_soon(client.leaves)
    loop.call_soon(after, turns)
    with suppress(ClientClosed):
        await unless_disconnected(client.scope, client.receive, work())
    for _ in range(5):
        await asyncio.sleep(0)  # would raise here
    assert cancelling() == 0
