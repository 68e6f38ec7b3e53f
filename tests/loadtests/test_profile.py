"""How much of the load there is, by time, and when questions are due."""

import random

import pytest

from loadtests.arrivals import Arrivals
from loadtests.profile import Profile

RAMP = Profile("ramp", ramp=30, hold=120)
SPIKE = Profile("spike", ramp=10, hold=20, base=0.2, spike=5)
SOAK = Profile("soak", ramp=10, hold=100)


@pytest.mark.parametrize(
    ("elapsed", "users"), [(0, 1), (14.9, 5), (15, 5), (29.9, 10), (30, 10), (149.9, 10), (150, None), (900, None)]
)
def test_users_come_evenly_and_stay(elapsed: float, users: int | None) -> None:
    assert RAMP.users_at(elapsed, 10) == users


def test_without_a_ramp_all_users_are_there_at_once() -> None:
    assert Profile("ramp", ramp=0, hold=1).users_at(0, 7) == 7


@pytest.mark.parametrize(
    ("profile", "elapsed", "share"),
    [
        (SPIKE, 5, 0.1),
        (SPIKE, 10, 0.2),
        (SPIKE, 29.9, 0.2),
        (SPIKE, 30, 1),
        (SPIKE, 34.9, 1),
        (SPIKE, 35, 0.2),
        (SPIKE, 54.9, 0.2),
        (SPIKE, 55, None),
        (SOAK, 5, 0.5),
        (SOAK, 10, 1),
        (SOAK, 110, 1),
        (SOAK, 115, 0.5),
        (SOAK, 120, None),
    ],
)
def test_a_spike_comes_at_once_and_goes_and_a_soak_ends_evenly(
    profile: Profile, elapsed: float, share: float | None
) -> None:
    assert profile.share_at(elapsed) == (share if share is None else pytest.approx(share))


class _Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def _arrivals(rate: float, profile: Profile, users: int = 1, clock: _Clock | None = None) -> Arrivals:
    arrivals = Arrivals(rate, profile, random.Random(5), clock or _Clock())  # noqa: S311  # arrivals in a test
    for _ in range(users):
        arrivals.joined()
    return arrivals


def _until_the_end(arrivals: Arrivals) -> list[float]:
    return list(iter(arrivals.next, None))


def test_questions_are_due_at_the_rate_whatever_becomes_of_them() -> None:
    due = _until_the_end(_arrivals(20 / 50, Profile("ramp", ramp=0, hold=500), users=50))
    assert due == sorted(due)
    assert 1000 < due[0] < 1005
    assert due[-1] < 1500
    assert len(due) == pytest.approx(10_000, rel=0.04)


def test_the_rate_follows_the_shape() -> None:
    due = _until_the_end(_arrivals(20, Profile("spike", ramp=100, hold=100, base=0.2, spike=100)))
    counts = [sum(1000 + start <= time < 1100 + start for time in due) for start in (0, 100, 200, 300)]
    assert counts == pytest.approx([200, 400, 2000, 400], rel=0.15)


def test_what_nobody_was_free_for_is_overdue_once() -> None:
    clock = _Clock()
    arrivals = _arrivals(10, Profile("ramp", ramp=0, hold=60), clock=clock)
    clock.now += 30
    assert len(list(arrivals.overdue())) == pytest.approx(300, rel=0.2)
    assert list(arrivals.overdue()) == []


def test_the_last_user_to_leave_is_told_so() -> None:
    arrivals = _arrivals(1, RAMP, users=2)
    assert [arrivals.left(), arrivals.left()] == [False, True]
