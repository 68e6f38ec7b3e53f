from typing import Any

import pytest

from gateway.exchange import Attempt, Exchange, Finding, IllegalTransition, Outcome, State

NEXT = {
    State.QUEUED: {State.COMMITTED, State.BLOCKED, State.CLIENT_CLOSED, State.REFUSED, State.FAILED},
    State.COMMITTED: {State.COMPLETED, State.TRUNCATED, State.BLOCKED, State.CLIENT_CLOSED},
}


def exchange(*attempts: Attempt, **fields: Any) -> Exchange:
    return Exchange("id", "req", 0.0, "acme", "alice", attempts=list(attempts), **fields)


@pytest.mark.parametrize("before", State)
@pytest.mark.parametrize("after", State)
def test_only_the_transitions_of_the_table_are_possible(before: State, after: State) -> None:
    moving = exchange(state=before)
    if after in NEXT.get(before, set()):
        moving.move(after)
        assert moving.state is after
    else:
        with pytest.raises(IllegalTransition, match=after):
            moving.move(after)
        assert moving.state is before


@pytest.mark.parametrize("state", State)
def test_a_state_is_terminal_when_nothing_can_follow(state: State) -> None:
    assert exchange(state=state).terminal == (state not in NEXT)


DRIFTED = Attempt("local", firm=False, outcome=Outcome.DRIFTED)
REPAIRED = Attempt("local", firm=True, outcome=Outcome.SERVED)
FAILED = Attempt("local", firm=False, outcome=Outcome.FAILED)
SERVED = Attempt("gpt", firm=False, outcome=Outcome.SERVED)


@pytest.mark.parametrize(
    ("attempts", "headers"),
    [
        ((), {}),
        ((FAILED,), {}),
        ((SERVED,), {"target": "gpt"}),
        ((DRIFTED, REPAIRED), {"target": "local", "repairs": "1", "attempts": "local=drifted, local+firm=served"}),
        ((FAILED, SERVED), {"target": "gpt", "attempts": "local=failed, gpt=served"}),
        ((DRIFTED, DRIFTED), {"repairs": "2", "attempts": "local=drifted, local=drifted"}),
    ],
)
def test_the_headers_tell_what_was_tried(attempts: tuple[Attempt, ...], headers: dict[str, str]) -> None:
    told = exchange(*attempts, guards={"language": Finding("passed"), "terms": Finding("off")}).headers()
    assert told.pop("x-passerelle-guards") == "language=passed; terms=off"
    assert told == {f"x-passerelle-{name}": value for name, value in headers.items()}


@pytest.mark.parametrize(
    ("usage", "deltas", "outcome", "expected"),
    [
        ({"prompt_tokens": 7, "completion_tokens": 5}, 3, Outcome.SERVED, (7, 5, "upstream")),
        ({"prompt_tokens": 7}, 3, Outcome.SERVED, (7, 0, "upstream")),
        ({"prompt_tokens": None, "completion_tokens": "5"}, 3, Outcome.SERVED, (0, 0, "upstream")),
        ({"prompt_tokens": -7, "completion_tokens": 2**40}, 3, Outcome.SERVED, (0, 2**31 - 1, "upstream")),
        (None, 3, Outcome.SERVED, (9, 3, "local")),
        (None, 3, Outcome.FAILED, (9, 3, "local")),
        (None, 0, Outcome.FAILED, (0, 0, "none")),
        (None, 0, Outcome.ABANDONED, (9, 0, "local")),
        (None, 2, Outcome.DRIFTED, (9, 2, "local")),
    ],
)
def test_tokens_are_the_model_server_s_count_or_our_own_and_it_says_which(
    usage: dict[str, Any] | None, deltas: int, outcome: Outcome, expected: tuple[int, int, str]
) -> None:
    attempt = Attempt("local", firm=False, outcome=outcome)
    attempt.count(usage, prompt_estimate=lambda: 9, deltas=deltas)
    assert (attempt.prompt_tokens, attempt.completion_tokens, attempt.usage_source) == expected


def test_no_estimate_is_made_where_the_model_server_has_counted_or_nothing_came() -> None:
    def never() -> int:
        raise AssertionError("asked for nothing")

    Attempt("local", firm=False, outcome=Outcome.SERVED).count({"prompt_tokens": 7}, prompt_estimate=never, deltas=3)
    Attempt("local", firm=False, outcome=Outcome.FAILED).count(None, prompt_estimate=never, deltas=0)
