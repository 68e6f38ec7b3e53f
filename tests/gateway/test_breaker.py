"""The breaker: a table of stories, and what holds in every story."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway.breaker import Breaker, State
from tests.gateway.requests import Clock

FAILURES, COOL_DOWN = 3, 10.0


def told(story: str) -> tuple[Breaker, Clock]:
    """A breaker after a story: f a request that fails, s one that succeeds, l one that is left, b one that only begins to
    answer, w the cool-down passes, t a trial goes out and stays out."""
    clock = Clock()
    breaker = Breaker(FAILURES, COOL_DOWN, clock)
    for event in story:
        if event == "w":
            clock.now += COOL_DOWN
            continue
        period = breaker.enter()
        if event != "t":
            {"f": breaker.failed, "s": breaker.succeeded, "l": breaker.left, "b": breaker.answering}[event](period)
    return breaker, clock


@pytest.mark.parametrize(
    ("story", "state", "wait"),
    [
        ("", State.CLOSED, 0),
        ("ff", State.CLOSED, 0),
        ("fff", State.OPEN, COOL_DOWN),
        ("ffsff", State.CLOSED, 0),
        ("fflf", State.OPEN, COOL_DOWN),
        ("ffbf", State.OPEN, COOL_DOWN),  # an answer that only begins proves nothing: it may be cut each time
        ("fffw", State.OPEN, 0),
        ("fffwt", State.TRIAL, float("inf")),
        ("fffws", State.CLOSED, 0),
        ("fffwsff", State.CLOSED, 0),
        ("fffwf", State.OPEN, COOL_DOWN),
        ("fffwfws", State.CLOSED, 0),
        ("fffwl", State.OPEN, 0),  # a trial whose client left: the next request is the trial
        ("fffwb", State.CLOSED, 0),
        ("fffwbf", State.OPEN, COOL_DOWN),  # closed on probation
        ("fffwbsff", State.CLOSED, 0),
    ],
)
def test_a_breaker_opens_after_failures_in_a_row_and_closes_by_one_trial(story: str, state: State, wait: float) -> None:
    breaker, _ = told(story)
    assert (breaker.state(), breaker.wait()) == (state, wait)
    assert breaker.admits() == (wait == 0)


def test_the_wait_shrinks_as_time_passes() -> None:
    breaker, clock = told("fff")
    clock.now += 4
    assert breaker.wait() == pytest.approx(6)


def test_an_open_breaker_lets_nothing_through() -> None:
    for story in ("fff", "fffwt"):
        with pytest.raises(RuntimeError):
            told(story)[0].enter()


@pytest.mark.parametrize("word", ["failed", "succeeded", "left", "answering"])
@pytest.mark.parametrize("since", ["open", "trial", "closed"])
def test_a_request_from_before_the_breaker_opened_changes_nothing(word: str, since: str) -> None:
    breaker, clock = told("")
    old = breaker.enter()
    for _ in range(FAILURES):
        breaker.failed(breaker.enter())
    if since != "open":
        clock.now += COOL_DOWN
        trial = breaker.enter()
        if since == "closed":
            breaker.answering(trial)
    before = breaker.state(), breaker.wait()
    getattr(breaker, word)(old)
    assert (breaker.state(), breaker.wait()) == before


@pytest.mark.parametrize(
    ("probes", "down"),
    [("", False), ("-", False), ("--", True), ("-+-", False), ("---", True), ("--+", False), ("--+-", False)],
)
def test_two_failed_probes_in_a_row_say_that_a_replica_is_down(probes: str, *, down: bool) -> None:
    breaker, _ = told("")
    for probe in probes:
        breaker.probed(up=probe == "+")
    assert breaker.down() is down
    assert breaker.state() is State.CLOSED


@pytest.mark.parametrize(
    ("story", "probes", "state", "wait"),
    [
        ("fff", "+", State.OPEN, COOL_DOWN),  # it was never down: its engine may have died behind a green probe
        ("fff", "-+", State.OPEN, COOL_DOWN),
        ("fff", "--", State.OPEN, COOL_DOWN),
        ("fff", "--+", State.OPEN, 0),
        ("fff", "--++--", State.OPEN, 0),
        ("fffwt", "--+", State.TRIAL, float("inf")),
    ],
)
def test_a_probe_makes_the_trial_possible_and_closes_no_breaker(
    story: str, probes: str, state: State, wait: float
) -> None:
    breaker, _ = told(story)
    for probe in probes:
        breaker.probed(up=probe == "+")
    assert (breaker.state(), breaker.wait()) == (state, wait)


def test_a_trial_that_a_probe_made_possible_and_that_fails_is_followed_by_a_whole_cool_down() -> None:
    breaker, _ = told("fff")
    for up in (False, False, True):
        breaker.probed(up=up)
    breaker.failed(breaker.enter())
    assert (breaker.state(), breaker.wait()) == (State.OPEN, COOL_DOWN)


class Stories(RuleBasedStateMachine):
    """Requests that overlap and end in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.breaker = Breaker(FAILURES, COOL_DOWN, self.clock)
        self.open: list[int] = []
        self.trials: set[int] = set()
        self.opened = float("-inf")

    @precondition(lambda self: self.breaker.admits())
    @rule()
    def enters(self) -> None:
        was = self.breaker.state()
        self.open.append(self.breaker.enter())
        assert self.breaker.state() is (State.TRIAL if was is State.OPEN else State.CLOSED)

    @precondition(lambda self: self.open)
    @rule(data=st.data(), word=st.sampled_from(["failed", "succeeded", "left", "answering"]))
    def ends(self, data: st.DataObject, word: str) -> None:
        was = self.breaker.state()
        period = self.open[data.draw(st.integers(0, len(self.open) - 1))]
        if word != "answering":
            self.open.remove(period)
        getattr(self.breaker, word)(period)
        if self.breaker.state() is State.OPEN and was is not State.OPEN and word == "failed":
            self.opened = self.clock.now
        if was is State.OPEN:
            assert self.breaker.state() is State.OPEN  # only a trial closes it

    @rule(up=st.booleans())
    def is_probed(self, *, up: bool) -> None:
        was = self.breaker.state()
        if up and self.breaker.down():
            self.opened = float("-inf")
        self.breaker.probed(up=up)
        assert self.breaker.state() is was

    @rule(seconds=st.floats(0, 2 * COOL_DOWN))
    def waits(self, seconds: float) -> None:
        self.clock.now += seconds

    @invariant()
    def an_open_breaker_admits_only_after_its_cool_down_and_one_at_a_time(self) -> None:
        state, wait = self.breaker.state(), self.breaker.wait()
        assert wait >= 0
        assert self.breaker.admits() == (wait == 0)
        if state is State.CLOSED:
            assert self.breaker.admits()
        elif state is State.TRIAL or self.clock.now < self.opened + COOL_DOWN:
            assert not self.breaker.admits()
        else:
            assert self.breaker.admits()


TestStories = Stories.TestCase


@given(st.lists(st.sampled_from("fslb"), max_size=40))
def test_fewer_failures_in_a_row_than_the_limit_never_open_it(events: list[str]) -> None:
    breaker, _ = told("")
    row = 0
    for event in events:
        row = row + 1 if event == "f" else 0 if event == "s" else row
        if row == FAILURES:
            break
        word = {"f": breaker.failed, "s": breaker.succeeded, "l": breaker.left, "b": breaker.answering}[event]
        word(breaker.enter())
        assert breaker.state() is State.CLOSED
