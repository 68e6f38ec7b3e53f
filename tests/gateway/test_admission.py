"""The places of a pool: bounds, deadlines, and fairness between tenants."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.admission import Admission, Place
from gateway.errors import Overloaded
from tests.gateway.requests import Clock

SOON = 5.0


def admission(places: int = 1, length: int = 100, seconds: float = SOON) -> Admission:
    return Admission(places, length, seconds, Clock())


async def turns() -> None:
    """Let every task that can go on do so."""
    for _ in range(5):
        await asyncio.sleep(0)


def entering(pool: Admission, tenant: str) -> asyncio.Task[Place]:
    """One request; whether a test looks at how it ended is the test's affair."""
    task = asyncio.create_task(pool.enter(tenant))
    task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
    return task


async def waiting(pool: Admission, *tenants: str) -> list[asyncio.Task[Place]]:
    """One request after another that does not get a place at once."""
    tasks = []
    for tenant in tenants:
        tasks.append(entering(pool, tenant))
        await turns()
    return tasks


def served(tasks: list[asyncio.Task[Place]]) -> list[int]:
    return [
        number for number, task in enumerate(tasks) if task.done() and not task.cancelled() and not task.exception()
    ]


async def test_places_are_given_at_once_while_there_are_any() -> None:
    pool = admission(places=2)
    first, _ = [await pool.enter("a") for _ in range(2)]
    (third,) = await waiting(pool, "b")
    assert (pool.under_way, pool.waiting, third.done()) == (2, 1, False)
    first.leave()
    assert (await third, pool.under_way, pool.waiting) == (third.result(), 2, 0)


async def test_no_bound_is_no_queue() -> None:
    pool = admission(places=0)
    for _ in range(5000):
        await pool.enter("a")
    assert (pool.under_way, pool.waiting) == (5000, 0)


async def test_a_place_is_given_back_once() -> None:
    pool = admission(places=2)
    first, _ = [await pool.enter("a") for _ in range(2)]
    first.leave()
    first.leave()
    assert pool.under_way == 1


async def test_a_free_place_goes_to_the_tenant_with_the_fewest_requests_under_way() -> None:
    pool = admission(places=3)
    places = [await pool.enter(tenant) for tenant in ("a", "a", "b")]
    tasks = await waiting(pool, "a", "a", "b", "c")
    for place in places:
        place.leave()
        await turns()
    assert served(tasks) == [0, 2, 3]  # c had none, b one, and then a


async def test_tenants_with_as_much_under_way_take_turns() -> None:
    pool = admission()
    place = await pool.enter("z")
    names = ["a", "a", "a", "b", "b", "c"]
    tasks = await waiting(pool, *names)
    order = []
    for _ in names:
        place.leave()
        await turns()
        (number,) = [one for one in served(tasks) if one not in order]
        order.append(number)
        place = tasks[number].result()
    assert [names[number] for number in order] == ["a", "b", "c", "a", "b", "a"]


async def test_one_request_waits_for_one_place_behind_a_thousand_of_another_tenant() -> None:
    pool = admission(places=4, length=1000)
    places = [await pool.enter("a") for _ in range(4)]
    crowd = [entering(pool, "a") for _ in range(1000)]
    await turns()
    (one,) = await waiting(pool, "b")
    places[0].leave()
    await turns()
    assert one.done()
    assert isinstance(one.result(), Place)
    assert sum(task.done() for task in crowd) == 1  # the newest had to make room: the queue was full
    with pytest.raises(Overloaded):
        await next(task for task in crowd if task.done())
    for task in crowd:
        task.cancel()
    await asyncio.wait(crowd)


async def test_a_full_queue_refuses_whoever_has_the_most_in_it() -> None:
    pool = admission(length=3)
    await pool.enter("z")
    tasks = await waiting(pool, "a", "a", "b")
    with pytest.raises(Overloaded):
        await pool.enter("a")
    with pytest.raises(Overloaded):
        await pool.enter("b")  # as many as the longest then: nothing would be fairer
    (late,) = await waiting(pool, "c")
    assert not late.done()
    with pytest.raises(Overloaded):
        await tasks[1]
    assert [task.done() for task in tasks] == [False, True, False]
    for task in (tasks[0], tasks[2], late):
        task.cancel()


async def test_a_queue_of_no_length_refuses_at_once() -> None:
    pool = admission(length=0)
    await pool.enter("a")
    with pytest.raises(Overloaded):
        await pool.enter("b")


async def test_a_turn_that_does_not_come_in_time_is_over() -> None:
    pool = admission(seconds=0.01)
    place = await pool.enter("a")
    with pytest.raises(Overloaded) as refused:
        await pool.enter("b")
    assert int(refused.value.headers["retry-after"]) >= 1
    assert pool.waiting == 0
    place.leave()
    assert pool.under_way == 0


@pytest.mark.parametrize(("held", "told"), [(0.0, 1), (100.0, 60)])
async def test_the_caller_is_told_about_how_long_a_place_may_take(held: float, told: int) -> None:
    clock = Clock()
    pool = Admission(1, 0, SOON, clock)
    for _ in range(50):
        place = await pool.enter("a")
        clock.now += held
        place.leave()
    await pool.enter("a")
    with pytest.raises(Overloaded) as refused:
        await pool.enter("a")
    assert refused.value.headers == {"retry-after": str(told)}


async def test_who_leaves_the_queue_is_out_of_it() -> None:
    pool = admission()
    place = await pool.enter("a")
    gone, stays = await waiting(pool, "b", "c")
    gone.cancel()
    await turns()
    assert pool.waiting == 1
    place.leave()
    assert isinstance(await stays, Place)


@pytest.mark.parametrize("cancelled_first", [True, False])
async def test_a_place_given_to_one_who_leaves_at_that_moment_goes_on(cancelled_first: bool) -> None:
    pool = admission()
    place = await pool.enter("a")
    gone, stays = await waiting(pool, "b", "c")
    if cancelled_first:
        gone.cancel()
    place.leave()
    gone.cancel()
    assert isinstance(await stays, Place)
    assert (pool.under_way, pool.waiting) == (1, 0)


async def test_other_bounds_take_effect_at_once_and_nobody_is_sent_away() -> None:
    pool = admission()
    await pool.enter("a")
    (second, third) = await waiting(pool, "a", "a")
    pool.resize(2, 0, SOON)
    await turns()
    assert (second.done(), third.done(), pool.under_way, pool.waiting) == (True, False, 2, 1)
    third.cancel()


@given(
    places=st.integers(1, 4),
    length=st.integers(0, 6),
    steps=st.lists(
        st.tuples(st.sampled_from(["enter", "leave", "cancel"]), st.sampled_from("abc"), st.integers(0, 20)),
        max_size=60,
    ),
)
async def test_whatever_happens_the_counts_are_true_and_no_place_stays_empty(
    places: int, length: int, steps: list[tuple[str, str, int]]
) -> None:
    pool = admission(places, length)
    tasks: list[tuple[str, asyncio.Task[Place]]] = []
    left: set[int] = set()
    for step, tenant, number in steps:
        if step == "enter":
            tasks.append((tenant, entering(pool, tenant)))
        elif tasks:
            chosen = number % len(tasks)
            task = tasks[chosen][1]
            if step == "cancel" and not task.done():
                task.cancel()
            elif step == "leave" and chosen in served([task for _, task in tasks]):
                task.result().leave()
                left.add(chosen)
        await turns()
        inside = [number for number in served([task for _, task in tasks]) if number not in left]
        outside = [number for number, (_, task) in enumerate(tasks) if not task.done()]
        assert (pool.under_way, pool.waiting) == (len(inside), len(outside))
        assert len(inside) <= places
        assert len(outside) <= length
        assert not outside or len(inside) == places
    for _, task in tasks:
        task.cancel()
    await asyncio.gather(*(task for _, task in tasks), return_exceptions=True)
