"""The benchmark of balancing: its parts, and one very short run."""

import asyncio
import random

import pytest

from loadtests.bench.balancing import arrivals, parser, run, table


def test_the_same_seed_gives_the_same_requests_at_the_rate_asked_for() -> None:
    first, second = (arrivals(2000, 50, 4, random.Random(3)) for _ in range(2))  # noqa: S311  # a benchmark
    assert first == second
    assert 2000 / first[-1].at == pytest.approx(50, rel=0.1)
    assert sum(arrival.tokens for arrival in first) / 2000 == pytest.approx(20, rel=0.1)
    assert {arrival.gateway for arrival in first} == {0, 1, 2, 3}


def test_the_table_sets_each_p99_against_ours() -> None:
    found = {"two choices": [0.1] * 100, "random": [0.1] * 50 + [0.4] * 50}
    assert table(28, found) == "| 28 | two choices | 100 | 100 | 1.00 |\n| 28 | random | 250 | 400 | 4.00 |\n"


def test_a_run_measures_every_way(capsys: pytest.CaptureFixture[str]) -> None:
    asyncio.run(run(parser().parse_args(["--rates", "100", "--requests", "40", "--slowness", "1", "4"])))
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" | ")[1] for line in lines[2:]] == [
        "two choices", "two choices, own requests alone", "round robin", "random",
    ]  # fmt: skip
    assert all(float(line.split(" | ")[3]) >= 50 for line in lines[2:])
