from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import ModelNotFound, UpstreamUnavailable
from gateway.routing import Catalogue, Ladder, Pool, Replica
from gateway.settings import Settings
from tests.gateway.requests import target

LOCAL, GPT = (Pool(name, target(), [Replica("http://127.0.0.1:1/v1")]) for name in ("local", "gpt"))


def catalogue(**targets: dict[str, Any]) -> Catalogue:
    """Model `m` with these targets, and `local-only` with the first."""
    tables = {name: {"kind": "vllm", "urls": ["http://h/v1/"], "model": "x", **more} for name, more in targets.items()}
    models = {"m": {"targets": list(tables)}, "local-only": {"targets": list(tables)[:1], "owned_by": "tiiuae"}}
    return Catalogue(Settings.model_validate({"targets": tables, "models": models}))


def climbed(ladder: Ladder, events: str) -> list[str]:
    """The asks of a ladder while targets fail (f) or drift (d), `+` for a firm one."""
    asks = []
    for event in events:
        ask = ladder.current()
        assert ask is not None
        asks.append(ask.pool.name + "+" * ask.firm)
        ladder.failed() if event == "f" else ladder.drifted()
    last = ladder.current()
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
def test_a_failure_asks_the_next_target_and_a_drift_asks_again_firmly(events: str, asks: list[str]) -> None:
    assert climbed(Ladder((LOCAL, GPT)), events) == asks


@given(st.integers(0, 5), st.lists(st.booleans(), min_size=12, max_size=12))
def test_a_ladder_always_ends_and_asks_no_target_more_than_twice(targets: int, fails: list[bool]) -> None:
    pools = tuple(Pool(str(number), target(), []) for number in range(targets))
    ladder, asked = Ladder(pools), []
    for fail in fails:
        if (ask := ladder.current()) is None:
            break
        asked.append(ask.pool.name)
        ladder.failed() if fail else ladder.drifted()
    assert ladder.current() is None
    assert all(asked.count(name) <= 2 for name in asked)
    assert sorted(set(asked)) == [pool.name for pool in pools]
    assert len(asked) <= targets + 1


def test_the_replica_with_the_fewest_requests_under_way_is_asked() -> None:
    first, second = Replica("a"), Replica("b")
    pool = Pool("p", target(), [first, second])
    with pool.least_loaded().load() as one, pool.least_loaded().load() as two:
        assert {one, two} == {"a", "b"}
    assert (first.in_flight, second.in_flight) == (0, 0)


def test_a_request_that_fails_no_longer_counts() -> None:
    replica = Replica("a")
    with pytest.raises(ValueError, match="broken"), replica.load():
        raise ValueError("broken")
    assert replica.in_flight == 0


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
