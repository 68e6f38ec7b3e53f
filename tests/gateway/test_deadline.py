import asyncio
import time

import pytest

from gateway.deadline import Deadline


def soon(seconds: float = 0.02) -> float:
    return asyncio.get_running_loop().time() + seconds


async def test_a_wait_under_way_at_the_time_ends_in_a_timeout_and_the_task_goes_on() -> None:
    due = Deadline(soon())
    with pytest.raises(TimeoutError), due:
        await asyncio.Event().wait()
    assert due.over()
    await asyncio.sleep(0)  # nothing of the cancellation is left
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_what_ends_in_time_is_let_be_and_so_is_what_comes_between_two_waits() -> None:
    due = Deadline(soon())
    with due:
        await asyncio.sleep(0)
    await asyncio.sleep(0.04)  # no wait: a slow reader, say
    due.move(soon(60))
    with due:
        await asyncio.sleep(0.02)
    due.close()


async def test_a_wait_that_begins_too_late_ends_at_once() -> None:
    due = Deadline(soon(-1))
    with pytest.raises(TimeoutError), due:
        await asyncio.sleep(60)


@pytest.mark.parametrize(("first", "then"), [(0.02, 0.06), (60.0, 0.04)], ids=["later", "earlier"])
async def test_a_time_that_has_moved_counts(first: float, then: float) -> None:
    due = Deadline(soon(first))
    with due:
        await asyncio.sleep(0)
    began = time.monotonic()
    due.move(soon(then))
    with pytest.raises(TimeoutError), due:
        await asyncio.sleep(60)
    assert time.monotonic() - began >= then - 0.005


async def test_whoever_else_cancels_cancels() -> None:
    async def work() -> None:
        with Deadline(soon(60)):
            await asyncio.sleep(60)

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_error_of_the_work_is_its_own() -> None:
    due = Deadline(soon(60))
    with pytest.raises(ZeroDivisionError), due:
        raise ZeroDivisionError
    due.close()
