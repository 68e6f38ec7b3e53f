"""How often passwords may be tried at one account: counted in memory, in Redis, and with a Redis that is gone."""

import secrets
import socket
import time
from collections.abc import Iterator

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from auth import throttle
from auth.errors import BadConfiguration, TooManyLogins
from auth.throttle import Throttle

HOME, CAFE = "198.51.100.1", "203.0.113.200"
BOTNET = [f"192.0.2.{n}" for n in range(60)]


class Clock:
    """Moves the clocks of this process: the limits' windows take theirs from here, in Redis as well."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ahead_s, wall_s, monotonic_s = 0.0, time.time, time.monotonic
        monkeypatch.setattr(time, "time", lambda: wall_s() + self.ahead_s)
        monkeypatch.setattr(time, "monotonic", lambda: monotonic_s() + self.ahead_s)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture(params=["memory", "redis", "gone"])
def uri(request: pytest.FixtureRequest) -> str:
    if request.param == "redis":
        return str(request.getfixturevalue("redis_url"))
    return {"memory": "memory://", "gone": "redis://127.0.0.1:1"}[request.param]


@pytest.fixture
def throttled(uri: str) -> Throttle:
    return made(uri)


@pytest.fixture
def account() -> str:
    return f"alice-{secrets.token_hex(6)}"


def made(uri: str, **rates: str) -> Throttle:
    return Throttle(throttle.limiter("10/minute", uri, lambda request: "unused"), **rates)


def tries(throttled: Throttle, address: str, account: str, times: int = 1) -> list[int]:
    """Try a wrong password: 0 for each try let in, else the seconds to wait."""
    waits = []
    for _ in range(times):
        try:
            throttled.admit(address, account)
        except TooManyLogins as refusal:
            waits.append(int(refusal.headers["Retry-After"]))
        else:
            throttled.failed(address, account)
            waits.append(0)
    return waits


def attack(throttled: Throttle, account: str) -> None:
    for address in BOTNET:
        tries(throttled, address, account)


def test_an_address_has_five_wrong_passwords_a_minute(throttled: Throttle, account: str) -> None:
    *admitted, wait_s = tries(throttled, HOME, account, 6)
    assert admitted == [0] * 5
    assert 55 <= wait_s <= 60


def test_the_wait_that_is_told_is_the_wait_there_is(throttled: Throttle, account: str, clock: Clock) -> None:
    tries(throttled, HOME, account)
    clock.ahead_s += 20
    *_, wait_s = tries(throttled, HOME, account, 5)
    assert 35 <= wait_s <= 40  # until the first of the five is a minute old
    clock.ahead_s += wait_s - 4
    assert tries(throttled, HOME, account) != [0]
    clock.ahead_s += 5
    assert tries(throttled, HOME, account, 2)[0] == 0


def test_a_login_counts_nothing(throttled: Throttle, account: str) -> None:
    for _ in range(20):
        throttled.admit(HOME, account)
        throttled.succeeded(HOME, account)
    assert tries(throttled, HOME, account, 5) == [0] * 5


def test_wrong_passwords_stay_with_their_address_and_their_account(throttled: Throttle, account: str) -> None:
    tries(throttled, CAFE, account, 6)
    assert tries(throttled, HOME, account, 5) == [0] * 5
    assert tries(throttled, CAFE, f"{account}-2", 5) == [0] * 5


def test_under_attack_an_address_that_logged_in_before_goes_on_as_ever(throttled: Throttle, account: str) -> None:
    throttled.succeeded(HOME, account)
    attack(throttled, account)
    *admitted, wait_s = tries(throttled, HOME, account, 6)
    assert admitted == [0] * 5
    assert wait_s <= 60


def test_under_attack_a_new_address_has_two_tries_in_ten_minutes(
    throttled: Throttle, account: str, clock: Clock
) -> None:
    attack(throttled, account)
    first, second, wait_s = tries(throttled, CAFE, account, 3)
    assert (first, second) == (0, 0)
    assert 590 <= wait_s <= 600
    clock.ahead_s += wait_s + 1
    assert tries(throttled, CAFE, account, 3)[:2] == [0, 0]
    assert tries(throttled, BOTNET[0], account, 3)[2] > 60


def test_a_try_from_before_the_attack_was_seen_is_one_of_the_two(throttled: Throttle, account: str) -> None:
    tries(throttled, CAFE, account)
    attack(throttled, account)
    first, wait_s = tries(throttled, CAFE, account, 2)
    assert (first, wait_s > 60) == (0, True)


def test_the_owner_gets_in_from_a_new_address_and_is_known_from_then_on(throttled: Throttle, account: str) -> None:
    attack(throttled, account)
    throttled.admit(CAFE, account)
    throttled.succeeded(CAFE, account)
    assert tries(throttled, CAFE, account, 5) == [0] * 5


def test_an_address_is_known_for_thirty_days_after_its_last_login(
    throttled: Throttle, account: str, clock: Clock
) -> None:
    day_s = 24 * 3600
    for _ in range(2):
        throttled.succeeded(HOME, account)
        clock.ahead_s += 29 * day_s
    attack(throttled, account)
    assert tries(throttled, HOME, account, 5) == [0] * 5
    clock.ahead_s += 2 * day_s
    attack(throttled, account)
    assert tries(throttled, HOME, account, 3)[2] > 60


def test_an_attack_ends_when_its_tries_are_an_hour_old(throttled: Throttle, account: str, clock: Clock) -> None:
    attack(throttled, account)
    clock.ahead_s += 3601
    assert tries(throttled, CAFE, account, 5) == [0] * 5


def test_an_address_known_to_one_process_is_known_to_all(redis_url: str, account: str) -> None:
    made(redis_url).succeeded(HOME, account)
    other = made(redis_url)
    attack(other, account)
    assert tries(other, HOME, account, 5) == [0] * 5


def test_processes_count_together(redis_url: str, account: str) -> None:
    tries(made(redis_url), HOME, account, 5)
    assert tries(made(redis_url), HOME, account) != [0]


def test_the_storage_shows_neither_accounts_nor_addresses(redis_url: str, account: str) -> None:
    throttled = made(redis_url)
    throttled.succeeded(HOME, account)
    attack(throttled, account)
    with redis.Redis.from_url(redis_url) as client:
        keys = [key.decode() for key in client.scan_iter("*")]
        for kind in ("pair", "attacked", "account", "known"):
            assert [key for key in keys if f"login-{kind}/" in key]
        assert not [key for key in keys if account in key or HOME in key or BOTNET[0] in key]
        assert all(client.ttl(key) > 0 for key in keys if "login-" in key)  # nothing stays for good


def test_no_text_reads_as_another_account_and_address(throttled: Throttle, account: str) -> None:
    tries(throttled, "b", f"{account}/a", 6)
    assert tries(throttled, "a/b", account) == [0]
    assert tries(throttled, "\ud800", f'{account}", "') == [0]


@pytest.fixture
def silent() -> Iterator[str]:
    """A Redis that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        yield f"redis://127.0.0.1:{server.getsockname()[1]}"


def test_a_silent_redis_is_waited_for_once(silent: str, account: str) -> None:
    throttled = made(silent)
    before = time.monotonic()
    *admitted, last = tries(throttled, HOME, account, 6)
    throttled.succeeded(HOME, account)
    assert 0.2 < time.monotonic() - before < 2  # six tries make eleven calls, of which one waits a quarter of a second
    assert (admitted, last > 0) == ([0] * 5, True)


def test_a_redis_that_comes_back_is_asked_again(
    redis_url: str, account: str, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    throttled = made(redis_url)
    throttled.succeeded(HOME, account)
    with monkeypatch.context() as broken:
        broken.setattr("redis.connection.Connection.send_packed_command", lost)
        attack(throttled, account)
        assert tries(throttled, HOME, account, 6)[:5] == [0] * 5  # known still: this process remembers as well
    assert tries(throttled, HOME, account) != [0]
    clock.ahead_s += throttle.RETRY_S + 1
    assert tries(throttled, HOME, account, 5) == [0] * 5  # what the memory counted stays there


def lost(*_args: object, **_kwargs: object) -> None:
    raise redis.ConnectionError


def test_a_process_remembers_a_bounded_number_of_addresses(monkeypatch: pytest.MonkeyPatch, account: str) -> None:
    monkeypatch.setattr(throttle, "MAX_KNOWN", 2)
    throttled = made("memory://")
    for address in (HOME, CAFE, BOTNET[0], HOME):
        throttled.succeeded(address, account)
    attack(throttled, account)
    assert tries(throttled, HOME, account, 5) == [0] * 5
    assert tries(throttled, CAFE, account, 3)[2] > 0


@pytest.mark.parametrize("rate", ["often", "", "0/minute", "5/minute; 50/hour"])
def test_a_rate_that_cannot_be_used_stops_the_start(rate: str) -> None:
    for name in ("per_pair", "per_account", "under_attack"):
        with pytest.raises(BadConfiguration):
            made("memory://", **{name: rate})


def test_the_refusal_says_nothing_about_the_account(throttled: Throttle, account: str) -> None:
    tries(throttled, HOME, account, 5)
    with pytest.raises(TooManyLogins) as refusal:
        throttled.admit(HOME, account)
    assert account not in str(refusal.value)
    assert refusal.value.status == 429


@given(
    st.lists(st.tuples(st.sampled_from(BOTNET), st.booleans()), max_size=120),
    st.sampled_from(["1/minute", "5/minute"]),
    st.sampled_from(["1/hour", "3/hour"]),
)
def test_nobody_is_refused_for_what_others_did(others: list[tuple[str, bool]], per_pair: str, per_account: str) -> None:
    throttled = made("memory://", per_pair=per_pair, per_account=per_account)
    account = secrets.token_hex(8)
    for address, asks_first in others:
        if asks_first:
            tries(throttled, address, account)
        else:
            throttled.failed(address, account)
        throttled.admit(HOME, account)


@given(st.lists(st.sampled_from([HOME, CAFE, *BOTNET[:3]]), max_size=40))
def test_outcomes_depend_on_the_sequence_alone_whoever_the_account_is(addresses: list[str]) -> None:
    throttled = made("memory://", per_account="6/hour")
    outcomes = [
        [wait_s > 0 for address in addresses for wait_s in tries(throttled, address, account)]
        for account in ("alice", "nobody", "")
    ]
    assert outcomes[0] == outcomes[1] == outcomes[2]
