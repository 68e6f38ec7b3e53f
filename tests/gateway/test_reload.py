"""What a reload does to the catalogue, and what it says of it; the signal itself is tried on real processes elsewhere."""

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway.breaker import State
from gateway.errors import ModelNotFound, UpstreamFailed
from gateway.failure import Failure
from gateway.pool import Call, Pool
from gateway.reckoning import Reckoner
from gateway.reload import Reload
from gateway.routing import Catalogue, Ladder
from gateway.settings import BadSettings, Settings
from tests.gateway.requests import Clock

A, B, C = (f"http://{letter}/v1" for letter in "abc")


def settings(urls: Iterable[str] = (A, B), /, target: str = "local", model: str = "m", **tables: Any) -> Settings:
    """One model with one target, and other tables."""
    more = tables.pop("of", {})
    targets = {target: {"kind": "vllm", "urls": list(urls), "model": "x", **more}}
    return Settings.model_validate({"targets": targets, "models": {model: {"targets": [target]}}, **tables})


def replace(catalogue: Catalogue, by: Settings) -> None:
    catalogue.replace(by, by.keys())


def only(catalogue: Catalogue) -> Pool:
    (pool,) = catalogue.targets("m", may_leave=True)
    return pool


def chosen(pool: Pool) -> set[str]:
    return {replica.url for _ in range(200) if (replica := pool.choose()) is not None}


def fail(call: Call) -> None:
    with pytest.raises(Failure), call:
        raise Failure("cut", UpstreamFailed("x"))


def test_a_replica_that_stays_keeps_its_breaker_and_its_requests_wherever_it_stands_now() -> None:
    clock = Clock()
    catalogue = Catalogue(settings(routing={"failures": 1}), clock)
    first, second = only(catalogue).replicas
    fail(Call(first))
    with Call(second):
        replace(catalogue, settings([B, C, A], routing={"failures": 1}))
        replicas = only(catalogue).replicas
        assert [(replica.url, replica.index) for replica in replicas] == [(B, 0), (C, 1), (A, 2)]
        assert (replicas[0], replicas[2]) == (second, first)
        assert [replica.breaker.state() for replica in replicas] == [State.CLOSED, State.CLOSED, State.OPEN]
        assert [replica.load.in_flight for replica in replicas] == [1, 0, 0]
        assert chosen(only(catalogue)) == {C}  # the less loaded of the two
    assert second.load.in_flight == 0


def test_a_replica_that_is_gone_is_not_chosen_and_what_it_does_is_counted_to_its_end() -> None:
    catalogue = Catalogue(settings())
    gone = only(catalogue).replicas[0]
    with Call(gone):
        replace(catalogue, settings([C]))
        assert chosen(only(catalogue)) == {C}
        assert gone.load.in_flight == 1
    assert gone.load.in_flight == 0


def test_the_same_url_twice_is_two_replicas_before_and_after() -> None:
    catalogue = Catalogue(settings([A, A]))
    before = list(only(catalogue).replicas)
    replace(catalogue, settings([A, A, A]))
    after = only(catalogue).replicas
    assert after[:2] == before
    assert len({id(replica) for replica in after}) == 3


def test_the_same_url_under_another_target_s_name_is_another_replica() -> None:
    catalogue = Catalogue(settings([A], routing={"failures": 1}))
    fail(Call(only(catalogue).replicas[0]))
    replace(catalogue, settings([A], target="other", routing={"failures": 1}))
    assert only(catalogue).replicas[0].breaker.state() is State.CLOSED
    assert list(catalogue.pools) == ["other"]


def test_new_bounds_hold_for_replicas_that_stay() -> None:
    clock = Clock()
    catalogue = Catalogue(settings([A], routing={"failures": 9}), clock)
    replica = only(catalogue).replicas[0]
    fail(Call(replica))
    replace(catalogue, settings([A], routing={"failures": 2, "cool_down_seconds": 60, "affinity": 7}))
    fail(Call(replica))
    assert (replica.breaker.state(), replica.breaker.wait()) == (State.OPEN, 60)
    assert (only(catalogue).affinity, only(catalogue).probed) == (7, True)
    replace(catalogue, settings([A], routing={"probe_seconds": 0}))
    assert not only(catalogue).probed


async def test_a_request_that_waits_for_a_place_gets_a_replica_of_the_new_ones() -> None:
    catalogue = Catalogue(settings([A], of={"concurrency": 1}))
    pool = only(catalogue)
    with Ladder((pool,)) as busy, Ladder((pool,)) as waiting:
        assert (await busy.current()) is not None
        turn = asyncio.ensure_future(waiting.current())
        await asyncio.sleep(0)
        assert not turn.done()
        replace(catalogue, settings([B], of={"concurrency": 2}))
        ask = await turn
        assert ask is not None
        assert ask.call.replica.url == B


async def test_a_request_accepted_by_a_target_that_is_gone_ends_there() -> None:
    catalogue = Catalogue(settings())
    with Ladder(catalogue.targets("m", may_leave=True)) as ladder:
        replace(catalogue, settings([C], target="other"))
        ask = await ladder.current()
        assert ask is not None
        assert ask.call.replica.url in (A, B)


def test_models_come_and_go() -> None:
    catalogue = Catalogue(settings())
    replace(catalogue, settings(model="new"))
    assert catalogue.names() == ["new"]
    with pytest.raises(ModelNotFound):
        catalogue.owner("m")


class House:
    """A catalogue, a reload of it, and how often it was replaced. `reads` are what the file holds at each reload."""

    def __init__(self, started: Settings, *reads: Settings | BadSettings) -> None:
        self.catalogue, self.replaced, self._reads = Catalogue(started), 0, list(reads)
        self.reload = Reload(started, self._read, self.catalogue, Reckoner(started), self._replaced)

    def _read(self) -> Settings:
        held = self._reads.pop(0)
        if isinstance(held, BadSettings):
            raise held
        return held

    async def _replaced(self, _: Settings) -> None:
        self.replaced += 1


async def logged(house: House) -> list[dict[str, Any]]:
    """What one reload logs, without the routine."""
    with capture_logs() as logs:
        await house.reload.now()
    return [dict(entry) for entry in logs]


async def test_what_came_and_went_is_logged_without_what_an_address_may_hold() -> None:
    house = House(settings(), settings([B, "http://u:hunter2@c:9/v1?k=hunter2"], model="new"))
    (entry,) = await logged(house)
    assert entry == {
        "event": "reloaded",
        "log_level": "info",
        "added": ["model new", "replica local c:9/v1"],
        "removed": ["model m", "replica local a/v1"],
    }
    assert house.replaced == 1


@pytest.mark.parametrize(
    ("held", "sentence"),
    [
        (BadSettings("server.prot is not a setting."), "server.prot is not a setting."),
        (Settings(), "models is empty: "),
    ],
    ids=["wrong", "empty"],
)
async def test_a_wrong_configuration_changes_nothing(held: Settings | BadSettings, sentence: str) -> None:
    house = House(settings(), held)
    replicas = list(only(house.catalogue).replicas)
    (entry,) = await logged(house)
    assert (entry["event"], entry["log_level"]) == ("reload_refused", "error")
    assert entry["reason"].startswith(sentence)
    assert only(house.catalogue).replicas == replicas
    assert house.replaced == 0


async def test_keys_that_only_new_workers_read_are_named_as_long_as_they_differ_and_what_they_hold_is_not() -> None:
    told: dict[str, Any] = {
        "auth": {"api_key_secret": "hunter2-hunter2-hunter2-hunter2-hunter2"},
        "guards": {"loops": {"mode": "off"}},
    }
    changed = settings([C], server={"workers": 4}, times={"idle": 1}, money={"currency": "CHF"}, **told)
    house = House(settings(of={"concurrency": 8}), changed, changed, settings())
    for _ in range(2):
        _, warning = await logged(house)
        assert (warning["event"], warning["log_level"]) == ("workers_needed", "warning")
        assert warning["keys"] == ["auth.api_key_secret", "guards.loops.mode", "server.workers", "times.idle"]
        assert "hunter2" not in str(warning)
    assert [entry["event"] for entry in await logged(house)] == ["reloaded"]
