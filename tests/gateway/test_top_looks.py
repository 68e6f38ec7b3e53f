"""What `passerelle top` makes of two looks, and how it shows it."""

from collections.abc import Sequence
from datetime import UTC, datetime
from io import StringIO
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from gateway.commands.looks import Seen, comparable, quantile, rates
from gateway.commands.screen import view
from gateway.live import SECONDS, Counts, Judged
from gateway.status.report import Installation, Limit, Replica, Running, Status, TargetLoad, Worker

NONE = [0] * (len(SECONDS) + 1)


def status(
    second: float, workers: Sequence[str] = ("a",), generated: float | None = None, silent: int = 0, **counts: Any
) -> Status:
    replica = Replica(
        index=0, address="10.0.0.1:8001/v1", breaker="closed", down=False, in_flight=1, running=2, waiting=3, cache=0.5,
        generated=generated,
    )  # fmt: skip
    target = TargetLoad(
        name="local", models=["m"], outside=False, in_flight=1, waiting=0, places=4, replicas=[replica]
    )  # fmt: skip
    installation = Installation(
        workers=[Worker(id=name, pid=1, since="2026-11-01T08:00:00+00:00", in_flight=0) for name in workers],
        silent=silent,
        degraded=[],
        targets=[target],
        counts=Counts(**counts),
    )
    return Status(
        at=datetime.fromtimestamp(1_800_000_000 + second, UTC).isoformat(),
        version="1.0", tenant=None, in_flight=0, requests=[], limits=[], installation=installation,
    )  # fmt: skip


def running(number: int, **more: Any) -> Running:
    given = {"request_id": f"req_{number}", "tenant": "acme", "model": "m", "target": "local", "replica": 0}
    return Running(**{**given, "state": "asked", "seconds": float(number), "tokens": 7, **more})


def limit(used: float, **more: Any) -> Limit:
    given = {"scope": "user", "name": "alice", "tenant": "acme", "measure": "tokens_per_day", "limit": 1000}
    return Limit(**{**given, "used": used, "unit": "tokens", "until": None, **more})


def shown(*seen: Seen, width: int = 160, height: int | None = None) -> str:
    console = Console(width=width, file=StringIO(), no_color=True)
    with console.capture() as captured:
        console.print(view(seen, width, height))
    return captured.get()


def test_rates_are_differences_by_the_gateway_s_own_clock() -> None:
    before = status(0, requests=10, errors=1, refusals=0, tokens=100)
    made = rates(before, status(2, requests=30, errors=2, refusals=4, tokens=500))
    assert made is not None
    assert (made.seconds, made.requests, made.errors, made.refusals, made.tokens) == (2, 10, 0.5, 2, 200)


def test_the_tokens_of_a_replica_are_its_own_count() -> None:
    at = ("local", "10.0.0.1:8001/v1")
    assert _generated(status(0, generated=100), status(2, generated=500)) == {at: 200}
    assert _generated(status(0, generated=100), status(2)) == {}
    assert _generated(status(0, generated=500), status(2, generated=20)) == {}  # it was started anew


def _generated(before: Status, now: Status) -> dict[tuple[str, str], float]:
    made = rates(before, now)
    assert made is not None
    return made.generated


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        (status(0), status(2), True),
        (status(0), status(2, workers=["a", "b"]), False),
        (status(0, workers=["a", "b"]), status(2), False),
        (status(0), status(2, workers=["b"]), False),
        (status(0), status(0), False),
        (status(2), status(0), False),
    ],
)
def test_counts_are_compared_only_while_the_same_workers_speak(before: Status, now: Status, expected: bool) -> None:
    assert comparable(before, now) is expected


def test_without_the_installation_there_are_no_rates() -> None:
    one, two = status(0), status(2)
    two.installation = None
    assert not comparable(one, two)
    assert rates(one, two) is None
    assert not comparable(two, one)


def numbers(*seconds: float) -> list[int]:
    found = list(NONE)
    for one in seconds:
        found[next((place for place, bound in enumerate(SECONDS) if one <= bound), len(SECONDS))] += 1
    return found


@pytest.mark.parametrize(("share", "seconds"), [(0.5, 0.2), (0.95, 3.0)])
def test_a_quantile_is_near_the_one_that_was(share: float, seconds: float) -> None:
    found = quantile(numbers(*[0.2] * 60, *[3.0] * 40), share)
    assert found == pytest.approx(seconds, rel=0.3)


@given(st.lists(st.floats(0.001, SECONDS[-1]), min_size=1), st.floats(0.01, 1))
def test_a_quantile_lies_in_the_bounds_of_the_time_that_it_stands_for(times: list[float], share: float) -> None:
    found = quantile(numbers(*times), share)
    exact = sorted(times)[max(0, -int(-share * len(times) // 1) - 1)]
    place = next(place for place, bound in enumerate(SECONDS) if exact <= bound)
    assert found is not None
    assert (SECONDS[place - 1] if place else 0) - 1e-9 <= found <= SECONDS[place] + 1e-9


def test_no_first_text_has_no_quantile_and_a_very_late_one_the_last_bound() -> None:
    assert quantile(NONE, 0.5) is None
    assert quantile(numbers(1e6), 0.5) == SECONDS[-1]


def test_every_part_is_shown() -> None:
    before, now = (
        status(0, generated=0),
        status(2, generated=84, requests=6, tokens=90, first_text=numbers(0.2)),
    )
    now.requests, now.in_flight, now.limits = [running(9)], 1, [limit(950)]
    assert now.installation is not None
    now.installation.degraded = ["limits"]
    now.installation.silent = 1
    now.installation.minute = Judged(french=3, repaired=1, foreign=1)
    text = shown(Seen("http://gw:8000", now, rates(before, now)))
    for word in (
        *("gw:8000", "2026-11-01 08:00:00", "1 of 2", "45", "80%", "3/1/0/1", "local/0", "10.0.0.1:8001/v1", "closed"),
        *("50%", "42", "acme", "alice", "tokens/day", "950", "1,000", "95%", "req_9", "asked", "9.0"),
        *("works without what they depend on: limits", "workers that do not answer: 1"),
    ):
        assert word in text, word


def test_what_somebody_else_wrote_is_no_markup_and_moves_no_cursor() -> None:
    now = status(0)
    now.requests, now.in_flight = [running(1, tenant="[red]x[/red]", model="\x1b[2J\u202em\x9b1m")], 1
    now.limits = [limit(1, name="[bold]\x1b]0;title\x07")]
    text = shown(Seen("http://gw", now))
    assert "[red]x[/red]" in text
    assert "?[2J?m?1m" in text
    assert "[bold]?]0;title?" in text
    assert not set(text) & {"\x1b", "\x07", "\x9b", "\u202e"}


@pytest.mark.parametrize("height", [18, 24, 50])
def test_it_fits_the_terminal_the_longest_requests_first(height: int) -> None:
    now = status(0)
    now.requests, now.in_flight = [running(number) for number in range(200)], 200
    now.limits = [limit(number) for number in range(50)]
    lines = shown(Seen("http://gw", now), width=100, height=height).splitlines()
    assert len(lines) <= height
    assert "req_199" in "\n".join(lines)
    assert max(map(len, lines)) <= 100


def test_a_gateway_that_is_away_says_since_when_beside_one_that_is_there() -> None:
    since = datetime(2026, 11, 1, 8, 9, 10, tzinfo=UTC)
    gone = Seen("http://gone:1", status(0), None, since, "http://gone:1 cannot be reached")
    text = shown(gone, Seen("http://here:2", status(0)))
    assert "away since 08:09:10 UTC" in text
    assert "http://gone:1 cannot be reached" in text
    assert text.count("local/0") == 1
