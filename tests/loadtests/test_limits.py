"""The benchmark of the limits: one very short run."""

import json

import pytest

from loadtests.bench.limits import main


def test_a_run_measures_every_way(capsys: pytest.CaptureFixture[str], redis_url: str) -> None:
    main(["--requests", "64", "--rounds", "1", "--json", "--redis", redis_url])
    found = json.loads(capsys.readouterr().out)
    ways = ("memory, 1 limits", "memory, 15 limits", "Redis, PING", "Redis, 1 limits", "Redis, 15 limits")
    assert set(found) == {f"{way}, {at_once} at once" for way in ways for at_once in (1, 64)}
    assert all(value > 0 for value in found.values())
