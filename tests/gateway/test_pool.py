"""Which replica is asked: claims over many picks, with a chance that is the same each time."""

from collections import Counter

import pytest

from gateway.breaker import State
from gateway.errors import InvalidRequest, UpstreamFailed
from gateway.failure import Failure
from gateway.pool import Call, Pool
from gateway.settings import Routing
from tests.gateway.requests import Clock, pool_of
from tests.gateway.test_load import metrics

PICKS = 4000


def picks(pool: Pool, count: int = PICKS) -> Counter[int]:
    """How often each replica is chosen while nothing changes."""
    chosen = [replica.index for _ in range(count) if (replica := pool.choose()) is not None]
    assert len(chosen) == count
    return Counter(chosen)


def test_equal_replicas_are_asked_equally_often() -> None:
    assert all(900 < count < 1100 for count in picks(pool_of(4)).values())


def test_the_less_loaded_of_two_is_asked() -> None:
    pool = pool_of(4)
    for replica, in_flight in zip(pool.replicas, (0, 1, 2, 3), strict=True):
        replica.load.in_flight = in_flight
    found = picks(pool)
    # Of the six pairs the idlest wins three, the next two, the third one; the busiest wins none.
    assert found[3] == 0
    assert [round(found[index] * 6 / PICKS) for index in range(3)] == [3, 2, 1]


def test_between_two_replicas_the_load_decides_alone() -> None:
    pool = pool_of(2)
    pool.replicas[0].load.in_flight = 1
    assert picks(pool) == {1: PICKS}


def test_what_vllm_says_counts_beside_our_own_requests() -> None:
    pool = pool_of(2)
    pool.replicas[0].load.in_flight = 2
    pool.replicas[0].load.take(metrics(0, 0, 0))
    pool.replicas[1].load.take(metrics(1, 4, 0.9))
    assert picks(pool) == {0: PICKS}


def test_our_own_requests_are_not_counted_twice() -> None:
    pool = pool_of(2)
    pool.replicas[0].load.in_flight = 3
    pool.replicas[0].load.take(metrics(2, 1, 0))  # ours, seen by the server
    pool.replicas[1].load.take(metrics(3, 1, 0))  # somebody else's
    assert picks(pool) == {0: PICKS}
    pool.replicas[0].load.in_flight = 0
    pool.replicas[1].load.take(metrics(0, 0, 0.1))
    assert picks(pool) == {0: PICKS}


@pytest.mark.parametrize(
    ("one", "other"),
    [((1, 0, 0.0), (0, 0, 0.9)), ((0, 1, 0.0), (0, 0, 0.9)), ((1, 1, 0.6), (1, 1, 0.5))],
    ids=["running", "waiting", "cache"],
)
def test_each_figure_counts(one: tuple[int, int, float], other: tuple[int, int, float]) -> None:
    pool = pool_of(2)
    for replica, figures in zip(pool.replicas, (one, other), strict=True):
        replica.load.take(metrics(*figures))
    assert picks(pool) == {1: PICKS}


def test_stale_figures_do_not_count_and_a_replica_without_any_does_not_look_idle() -> None:
    clock = Clock()
    pool = pool_of(2, clock=clock)
    pool.replicas[1].load.in_flight = 1
    pool.replicas[0].load.take(metrics(8, 8, 0.5))
    assert picks(pool) == {0: PICKS}  # the other one shows nothing: own requests alone
    pool.replicas[1].load.take(metrics(0, 0, 0))
    assert picks(pool) == {1: PICKS}
    clock.now += 4
    assert picks(pool) == {0: PICKS}


def test_a_replica_whose_breaker_is_open_is_never_asked() -> None:
    pool = pool_of(3, routing=Routing(failures=1))
    with pytest.raises(Failure), Call(pool.replicas[0]):
        raise Failure("cut", UpstreamFailed("x"))
    assert set(picks(pool)) == {1, 2}


def test_no_replica_is_chosen_when_none_is_left() -> None:
    pool = pool_of(1)
    assert pool.choose(but=pool.replicas[0]) is None


HOMED = Routing(affinity=20)


def homes(pool: Pool, words: range) -> list[str]:
    chosen = [pool.choose([f"Conversation numéro {number:03}"[::-1]]) for number in words]
    return [replica.url for replica in chosen if replica is not None]


def test_a_conversation_goes_where_its_beginning_was_computed() -> None:
    pool = pool_of(4, routing=HOMED)
    first = homes(pool, range(200))
    assert homes(pool, range(200)) == first
    assert all(25 < count < 75 for count in Counter(first).values())
    same = {replica.index for end in "abc" if (replica := pool.choose(["x" * 20, end])) is not None}
    assert len(same) == 1


def test_when_a_replica_goes_only_its_own_conversations_move() -> None:
    before = homes(pool_of(4, routing=HOMED), range(200))
    pool = pool_of(4, routing=HOMED)
    gone = pool.replicas.pop()
    for was, now in zip(before, homes(pool, range(200)), strict=True):
        assert was in (now, gone.url)


@pytest.mark.parametrize(("busy", "others", "stays"), [(4, 0, True), (5, 0, False), (15, 10, True), (16, 10, False)])
def test_affinity_yields_when_its_replica_is_clearly_busier(busy: int, others: int, *, stays: bool) -> None:
    pool = pool_of(4, routing=HOMED)
    home = pool.choose(["Bonjour"])
    for replica in pool.replicas:
        replica.load.in_flight = busy if replica is home else others
    assert {pool.choose(["Bonjour"]) is home for _ in range(50)} == {stays}


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (Failure("status 500", UpstreamFailed("x")), State.OPEN),
        (Failure("status 429", UpstreamFailed("x"), counts=False), State.CLOSED),
        (InvalidRequest("temperature"), State.CLOSED),
        (GeneratorExit(), State.CLOSED),
    ],
)
def test_a_call_counts_while_it_lasts_and_only_the_replica_s_own_failures_open_its_breaker(
    error: BaseException, state: State
) -> None:
    replica = pool_of(1, routing=Routing(failures=1)).replicas[0]
    with Call(replica):
        assert replica.load.in_flight == 1
    with pytest.raises(type(error)), Call(replica):
        raise error
    assert replica.load.in_flight == 0
    assert replica.breaker.state() is state


def test_an_answer_that_begins_ends_the_trial() -> None:
    clock = Clock()
    replica = pool_of(1, clock=clock, routing=Routing(failures=1)).replicas[0]
    with pytest.raises(Failure), Call(replica):
        raise Failure("cut", UpstreamFailed("x"))
    clock.now += 60
    with Call(replica) as call:
        assert replica.breaker.state() is State.TRIAL
        call.begun()
        assert replica.breaker.state() is State.CLOSED
