"""What is known of requests under way, and how those that have ended are counted."""

from typing import Any

import pytest

from gateway.exchange import Exchange, Finding, Outcome, State
from gateway.live import SECONDS, Judged, Live, stage, tokens


def exchange(**more: Any) -> Exchange:
    return Exchange("id", "req_1", 10.0, "acme", "alice", **more)


def answered(verdict: str = "passed", **more: Any) -> Exchange:
    """One that a model has answered."""
    made = exchange(status=200, state=State.COMPLETED, model="m", **more)
    made.attempt("local", firm=False, replica=0).completion_tokens = 5
    made.guards["language"] = Finding(verdict)
    return made


def counted(*exchanges: Exchange) -> dict[str, int]:
    """All that is not 0."""
    live = Live()
    for one in exchanges:
        with live.follow(one):
            pass
    counts = live.counts()
    return {name: value for name in counts.__struct_fields__[:-1] if (value := getattr(counts, name))}


def test_a_request_is_under_way_until_it_leaves_however_it_leaves() -> None:
    live = Live(lambda: 12.5)
    one = exchange()
    seen = []

    def leave() -> None:
        with live.follow(one):
            seen.extend(live.under_way())
            raise RuntimeError

    with pytest.raises(RuntimeError):
        leave()
    assert seen == [(one, 2.5)]
    assert live.under_way() == []
    assert live.counts().requests == 1


@pytest.mark.parametrize(
    ("state", "status", "expected"),
    [
        (State.COMPLETED, 200, {}),
        (State.BLOCKED, 200, {}),
        (State.CLIENT_CLOSED, 499, {}),
        (State.TRUNCATED, 200, {"errors": 1}),
        (State.FAILED, 502, {"errors": 1}),
        (State.REFUSED, 503, {"errors": 1}),
        (State.REFUSED, 429, {"refusals": 1}),
        (State.FAILED, 400, {"refusals": 1}),
    ],
)
def test_errors_are_ours_and_refusals_the_caller_s(state: State, status: int, expected: dict[str, int]) -> None:
    assert counted(exchange(state=state, status=status)) == {"requests": 1, **expected}


@pytest.mark.parametrize(
    ("verdict", "name"),
    [("passed", "french"), ("modified", "repaired"), ("blocked", "not_french"), ("flagged", "foreign")],
)
def test_answers_are_counted_by_their_french(verdict: str, name: str) -> None:
    assert counted(answered(verdict)) == {"requests": 1, "tokens": 5, name: 1}


@pytest.mark.parametrize("verdict", ["off", "not_evaluated"])
def test_answers_that_were_not_judged_are_not_counted_so(verdict: str) -> None:
    assert counted(answered(verdict)) == {"requests": 1, "tokens": 5}


def test_a_request_that_no_model_answered_says_nothing_of_french() -> None:
    refused = exchange(state=State.REFUSED, status=400, guards={"language": Finding("passed")})
    assert counted(refused) == {"requests": 1, "refusals": 1}


def test_tokens_under_way_are_counted_once() -> None:
    live, one = Live(), exchange()
    with live.follow(one):
        attempt = one.attempt("local", firm=False, replica=0)
        attempt.so_far = 3
        assert (tokens(one), live.counts().tokens) == (3, 3)
        attempt.completion_tokens = 4  # the model server has counted
        assert (tokens(one), live.counts().tokens) == (4, 4)
    assert live.counts().tokens == 4


def test_the_time_to_the_first_text_is_counted_between_bounds() -> None:
    live = Live()
    for seconds in (0.0, SECONDS[0], SECONDS[3] + 0.0001, 10_000.0):
        with live.follow(exchange(first_text=10.0 + seconds)):
            pass
    first_text = live.counts().first_text
    assert {place: number for place, number in enumerate(first_text) if number} == {0: 2, 4: 1, len(SECONDS): 1}


def test_what_others_counted_is_added() -> None:
    one, two = Live(), Live()
    for live in (one, two, two):
        with live.follow(answered(first_text=10.0)):
            pass
    both = one.counts()
    both.add(two.counts())
    assert (both.requests, both.tokens, both.french, both.first_text[0]) == (3, 15, 3, 3)
    assert one.counts().requests == 1


def test_the_last_minute_holds_its_answers_and_forgets_those_before_it() -> None:
    now = 100.0
    live = Live(lambda: now)
    for second, verdict in ((100.0, "passed"), (100.9, "modified"), (130.0, "blocked"), (159.9, "flagged")):
        now = second
        with live.follow(answered(verdict)):
            pass
    whole = Judged(french=1, repaired=1, not_french=1, foreign=1)
    assert (live.minute(), whole.share) == (whole, 0.5)
    now = 160.0
    assert live.minute() == Judged(not_french=1, foreign=1)
    now = 1_000.0
    assert (live.minute(), live.minute().share) == (Judged(), None)
    with live.follow(answered()):
        pass
    assert live.minute() == Judged(french=1)
    assert live.counts().french == 2


def test_the_last_minute_keeps_no_more_than_a_minute() -> None:
    now = 0.0
    live = Live(lambda: now)
    for second in range(1_000):
        now = float(second)
        with live.follow(answered()):
            pass
    assert len(live._minute) == 60
    assert live.minute() == Judged(french=60)


def test_the_minutes_of_workers_are_summed() -> None:
    one, two = Judged(french=1, foreign=2), Judged(french=3, repaired=4, not_french=5)
    one.add(two)
    assert one == Judged(french=4, repaired=4, not_french=5, foreign=2)


def test_how_far_a_request_is() -> None:
    one = exchange()
    seen = [stage(one)]
    one.model = "m"
    seen.append(stage(one))
    first = one.attempt("local", firm=False, replica=0)
    seen.append(stage(one))
    first.outcome = Outcome.FAILED
    seen.append(stage(one))
    one.attempt("outside", firm=True, replica=0)
    seen.append(stage(one))
    one.move(State.COMMITTED)
    seen.append(stage(one))
    one.move(State.COMPLETED)
    seen.append(stage(one))
    assert seen == ["reading", "waiting", "asked", "waiting", "asked", "answering", "sending"]
