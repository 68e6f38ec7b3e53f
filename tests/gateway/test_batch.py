"""What comes in one turn of the event loop is given on together, in order, in nobody's context."""

import asyncio
from contextvars import ContextVar

from gateway.batch import Batch

WHOSE: ContextVar[str] = ContextVar("whose", default="nobody")


async def test_what_comes_in_one_turn_is_given_on_together_when_it_ends() -> None:
    taken: list[list[int]] = []
    batch: Batch[int] = Batch(taken.append)
    for item in (1, 2, 3):
        batch.add(item)
    assert taken == []
    await asyncio.sleep(0)
    assert taken == [[1, 2, 3]]
    batch.add(4)
    batch.flush()
    await asyncio.sleep(0)
    assert taken == [[1, 2, 3], [4]]


async def test_what_is_added_while_it_is_taken_comes_with_the_next() -> None:
    taken: list[list[int]] = []

    def take(items: list[int]) -> None:
        taken.append(items)
        if items == [1]:
            batch.add(2)

    batch: Batch[int] = Batch(take)
    batch.add(1)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert taken == [[1], [2]]


async def test_it_is_taken_in_nobody_s_context() -> None:
    seen: list[str] = []
    batch: Batch[int] = Batch(lambda _: seen.append(WHOSE.get()))
    WHOSE.set("the first one's")
    batch.add(1)
    await asyncio.sleep(0)
    assert seen == ["nobody"]


def test_without_a_loop_it_is_taken_at_once() -> None:
    taken: list[list[int]] = []
    Batch[int](taken.append).add(1)
    assert taken == [[1]]
