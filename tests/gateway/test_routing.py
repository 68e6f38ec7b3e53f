from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import ModelNotFound, UpstreamUnavailable
from gateway.pool import Pool
from gateway.routing import Catalogue, Ladder
from gateway.settings import Routing, Settings
from tests.gateway.requests import Clock, pool_of


def catalogue(**targets: dict[str, Any]) -> Catalogue:
    """Model `m` with these targets, and `local-only` with the first."""
    tables = {name: {"kind": "vllm", "urls": ["http://h/v1/"], "model": "x", **more} for name, more in targets.items()}
    models = {"m": {"targets": list(tables)}, "local-only": {"targets": list(tables)[:1], "owned_by": "tiiuae"}}
    return Catalogue(Settings.model_validate({"targets": tables, "models": models}))


async def climbed(ladder: Ladder, events: str) -> list[str]:
    """The asks of a ladder while targets fail (f) or drift (d), `+` for a firm one."""
    asks = []
    for event in events:
        ask = await ladder.current()
        assert ask is not None
        asks.append(ask.pool.name + "+" * ask.firm)
        ladder.failed() if event == "f" else ladder.drifted()
    last = await ladder.current()
    return [*asks, "end" if last is None else last.pool.name + "+" * last.firm]


@pytest.mark.parametrize(
    ("events", "asks"),
    [
        ("", ["local"]),
        ("f", ["local", "gpt"]),
        ("d", ["local", "local+"]),
        ("ff", ["local", "gpt", "end"]),
        ("df", ["local", "local+", "gpt+"]),
        ("dd", ["local", "local+", "gpt+"]),
        ("ddd", ["local", "local+", "gpt+", "end"]),
        ("fd", ["local", "gpt", "gpt+"]),
        ("fdd", ["local", "gpt", "gpt+", "end"]),
        ("fdf", ["local", "gpt", "gpt+", "end"]),
    ],
)
async def test_a_failure_asks_the_next_target_and_a_drift_asks_again_firmly(events: str, asks: list[str]) -> None:
    assert await climbed(Ladder((pool_of(name="local"), pool_of(name="gpt"))), events) == asks


@pytest.mark.parametrize(
    ("events", "asks"),
    [
        ("f", ["local", "local"]),
        ("ff", ["local", "local", "gpt"]),
        ("ffff", ["local", "local", "gpt", "gpt", "end"]),
        ("fd", ["local", "local", "local+"]),
        ("fdf", ["local", "local", "local+", "gpt+"]),
        ("df", ["local", "local+", "local+"]),
        ("dd", ["local", "local+", "gpt+"]),
        ("fdd", ["local", "local", "local+", "gpt+"]),
    ],
)
async def test_a_failure_asks_another_replica_of_the_target_once(events: str, asks: list[str]) -> None:
    assert await climbed(Ladder((pool_of(3, name="local"), pool_of(3, name="gpt"))), events) == asks


async def test_the_replica_that_failed_is_not_the_one_asked_again() -> None:
    for _ in range(20):
        ladder = Ladder((pool_of(3),))
        asked = []
        while (ask := await ladder.current()) is not None:
            asked.append(ask.call.replica.index)
            ladder.failed()
        assert len(set(asked)) == 2


def opened(pool: Pool, clock: Clock, *replicas: int) -> Pool:
    """The pool with the breakers of some replicas open since `clock`'s now."""
    for index in replicas:
        breaker = pool.replicas[index].breaker
        for _ in range(ROUTING.failures):
            breaker.failed(breaker.enter())
    return pool


ROUTING = Routing(failures=2, cool_down_seconds=10)


async def test_a_target_whose_breakers_are_all_open_is_passed_over() -> None:
    clock = Clock()
    local = opened(pool_of(2, "local", clock, ROUTING), clock, 0, 1)
    assert await climbed(Ladder((local, pool_of(name="gpt"))), "f") == ["gpt", "end"]


@pytest.mark.parametrize(("passed", "retry_after"), [(0, "10"), (0.5, "10"), (3, "7"), (9.5, "1")])
async def test_when_every_breaker_is_open_the_caller_is_told_when_the_next_trial_is(
    passed: float, retry_after: str
) -> None:
    clock = Clock()
    first = opened(pool_of(2, "local", clock, ROUTING), clock, 0, 1)
    clock.now += passed
    second = opened(pool_of(1, "gpt", clock, ROUTING), clock, 0)
    with pytest.raises(UpstreamUnavailable) as refused:
        await Ladder((first, second)).current()
    assert refused.value.headers == {"retry-after": retry_after}


async def test_while_every_trial_is_under_way_the_caller_is_told_a_second() -> None:
    clock = Clock()
    pool = opened(pool_of(1, "local", clock, ROUTING), clock, 0)
    clock.now += 10
    pool.replicas[0].breaker.enter()
    with pytest.raises(UpstreamUnavailable) as refused:
        await Ladder((pool,)).current()
    assert refused.value.headers == {"retry-after": "1"}


@given(st.integers(0, 5), st.integers(1, 3), st.lists(st.booleans(), min_size=18, max_size=18))
async def test_a_ladder_always_ends_and_asks_no_target_too_often(
    targets: int, replicas: int, fails: list[bool]
) -> None:
    pools = tuple(pool_of(replicas, name=str(number)) for number in range(targets))
    ladder, asked = Ladder(pools), []
    for fail in fails:
        if (ask := await ladder.current()) is None:
            break
        asked.append(ask.pool.name)
        ladder.failed() if fail else ladder.drifted()
    assert await ladder.current() is None
    again = 1 if replicas > 1 else 0  # another replica after a failure
    assert all(asked.count(name) <= 2 + again for name in asked)
    assert sorted(set(asked)) == [pool.name for pool in pools]
    assert len(asked) <= targets * (1 + again) + 1


def test_a_model_s_targets_come_in_the_order_of_the_configuration() -> None:
    models = catalogue(zeta={}, alpha={})
    assert [pool.name for pool in models.targets("m", may_leave=True)] == ["zeta", "alpha"]
    assert models.names() == ["m", "local-only"]
    assert [models.owner(name) for name in models.names()] == ["passerelle", "tiiuae"]
    assert models.targets("m", may_leave=True)[0].replicas[0].url == "http://h/v1"


def test_text_that_may_not_leave_is_never_given_to_an_outside_target() -> None:
    models = catalogue(out={"outside": True}, local={})
    assert [pool.name for pool in models.targets("m", may_leave=False)] == ["local"]
    with pytest.raises(UpstreamUnavailable):
        models.targets("local-only", may_leave=False)


def test_a_model_that_is_not_published_does_not_exist() -> None:
    for call in (catalogue(a={}).owner, lambda name: catalogue(a={}).targets(name, may_leave=True)):
        with pytest.raises(ModelNotFound) as caught:
            call("x" * 300)
        assert caught.value.param == "model"
        assert len(str(caught.value)) < 200


def test_a_fallback_without_its_key_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOME_KEY", raising=False)
    table = {"kind": "openai", "api_key_env": "SOME_KEY"}
    assert [pool.name for pool in catalogue(local={}, gpt=table).targets("m", may_leave=True)] == ["local"]
    monkeypatch.setenv("SOME_KEY", "k")
    assert [pool.name for pool in catalogue(local={}, gpt=table).targets("m", may_leave=True)] == ["local", "gpt"]
