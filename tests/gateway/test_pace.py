"""How often a stream is handed on: at once where there are few, in steps where there are many, and its end at once."""

import asyncio
import time

import pytest

from gateway.pace import EACH, LONGEST, Pace, Steps


def now() -> float:
    return asyncio.get_running_loop().time()


def crowd(pace: Pace, streams: int) -> list[Steps]:
    """So many streams that have begun."""
    made = [Steps(pace) for _ in range(streams)]
    for steps in made:
        steps.came(now())
    return made


async def waited(steps: Steps) -> float:
    began = time.monotonic()
    await steps.pause(now())
    return time.monotonic() - began


async def test_the_first_tokens_are_never_waited_for() -> None:
    pace = Pace()
    crowd(pace, 1000)
    assert await waited(Steps(pace)) < LONGEST / 2


async def test_few_streams_are_handed_on_as_they_come() -> None:
    pace = Pace()
    (steps,) = crowd(pace, 1)
    assert await waited(steps) < LONGEST / 2


@pytest.mark.parametrize(("streams", "seconds"), [(200, 200 * EACH), (10_000, LONGEST)], ids=["many", "very many"])
async def test_many_are_left_alone_for_a_while_which_is_bounded(streams: int, seconds: float) -> None:
    made = crowd(Pace(), streams)
    made[-1].came(now())
    assert await waited(made[-1]) >= 0.9 * seconds


async def test_what_is_over_is_not_waited_for_and_ends_a_wait_under_way() -> None:
    first, second, *_ = crowd(Pace(), 1000)
    first.came(now())
    second.came(now())
    first.over()
    assert await waited(first) < LONGEST / 2
    asyncio.get_running_loop().call_soon(second.over)
    assert await waited(second) < LONGEST / 2


async def test_streams_that_have_ended_slow_nobody_down() -> None:
    pace = Pace()
    for steps in crowd(pace, 1000):
        steps.end()
        steps.end()
    Steps(pace).end()  # of one that never began
    assert pace.pause() == 0


async def test_a_wait_that_is_cancelled_leaves_no_timer() -> None:
    pace = Pace()
    steps = crowd(pace, 1000)[0]
    steps.came(now())
    task = asyncio.create_task(steps.pause(now()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    steps.over()
