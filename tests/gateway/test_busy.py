"""The busy time of a machine, shared among its requests."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.busy import Busy
from tests.gateway.test_limits import Clock


def test_the_shares_by_hand() -> None:
    clock = Clock()
    busy = Busy(clock)
    first = busy.enter()
    clock.now += 2  # alone
    second = busy.enter()
    clock.now += 4  # half each
    assert busy.leave(first) == pytest.approx(4)
    clock.now += 1  # alone
    assert busy.leave(second) == pytest.approx(3)
    clock.now += 100  # nobody: on nobody's account
    third = busy.enter()
    clock.now += 1
    assert busy.leave(third) == pytest.approx(1)


@given(st.lists(st.tuples(st.floats(0, 50), st.floats(0.001, 50)), min_size=1, max_size=30))
def test_all_shares_sum_up_to_the_time_in_which_there_was_a_request(spans: list[tuple[float, float]]) -> None:
    clock = Clock()
    busy, began = Busy(clock), clock.now
    events = sorted(
        [(at, 1, n) for n, (at, _) in enumerate(spans)] + [(at + took, 0, n) for n, (at, took) in enumerate(spans)]
    )
    entered, shares, open_, covered, last = {}, 0.0, 0, 0.0, 0.0
    for at, begins, number in events:
        covered += (at - last) if open_ else 0
        last, clock.now = at, began + at
        open_ += 1 if begins else -1
        if begins:
            entered[number] = busy.enter()
        else:
            shares += busy.leave(entered[number])
    assert shares == pytest.approx(covered, abs=1e-6)


def test_requests_of_others_have_their_shares_too() -> None:
    clock, others = Clock(), [3.2]
    busy = Busy(clock, lambda: others[0])
    entered = busy.enter()
    clock.now += 8
    assert busy.leave(entered) == pytest.approx(2)  # one of four; the share of the cache is no request
