"""The benchmark of several workers: who runs where, its arithmetic, and one very short run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from loadtests.bench.processor import between, bound_to, families, spent
from loadtests.bench.workers.__main__ import main
from loadtests.bench.workers.cores import fits, layout
from loadtests.bench.workers.loads import shares, together
from loadtests.bench.workers.report import notes, report, table
from loadtests.bench.workers.turns import Form, Measured, add

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("workers", "cores", "enough"),
    [
        (1, 1, False),
        (1, 2, True),
        (2, 3, False),
        (2, 4, True),
        (4, 6, True),
        (4, 5, False),
        (8, 16, True),
        (8, 10, False),
    ],
)
def test_workers_need_cores_of_their_own_and_some_for_their_callers(workers: int, cores: int, *, enough: bool) -> None:
    assert fits(workers, cores) is enough


def test_on_many_cores_nobody_shares_one() -> None:
    cores = layout(range(16), 8)
    assert (list(cores.gateway), list(cores.stores), list(cores.callers)) == ([*range(8)], [8, 9], [*range(10, 16)])
    assert list(cores.of(2)) == [0, 1]


def test_fewer_workers_do_not_change_who_calls_and_there_are_no_more_callers_than_workers() -> None:
    assert list(layout(range(64), 4).callers) == [6, 7, 8, 9]
    assert list(layout(range(64), 4, loads=2).callers) == [6, 7]


def test_on_two_cores_stores_and_callers_share_one() -> None:
    cores = layout([0, 1], 1)
    assert (list(cores.gateway), list(cores.stores), list(cores.callers)) == ([0], [1], [1])


def test_crowded_workers_share_all_cores_but_one() -> None:
    cores = layout([4, 5], 8, loads=2, crowded=True)
    assert (list(cores.of(8)), list(cores.stores), list(cores.callers)) == ([4], [5], [5, 5])
    assert list(layout([0], 2, crowded=True).callers) == [0]


def test_connections_are_shared_out_evenly() -> None:
    assert shares(16, 6) == [3, 3, 3, 3, 2, 2]
    assert shares(2, 3) == [1, 1, 0]


def test_rates_of_processes_that_measure_together_are_added_up() -> None:
    one = {"per_second": [10.0, 20.0, 30.0], "failed": 0, "problem": ""}
    other = {"per_second": [4.0, 8.0], "failed": 2, "problem": "429"}
    found = together([one, other])
    assert found.per_second == [16, 26, 36]
    assert (found.problems.count, found.problems.first) == (2, "429")


def test_the_time_of_a_process_is_what_it_had() -> None:
    before = spent([os.getpid()])
    while between(before, spent([os.getpid()])) < 0.05:
        sum(range(10_000))
    assert spent([2**22 + 1]) == {}
    assert between({1: 3.0}, {1: 3.5, 2: 9.0}) == 0.5


def test_processes_are_found_by_their_cores() -> None:
    assert os.getpid() in bound_to(os.sched_getaffinity(0))
    assert bound_to([2**10]) == set()


def test_a_process_is_found_with_those_that_it_starts() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert {os.getpid(), child.pid} <= families([os.getpid()])
        assert families([child.pid]) == {child.pid}
        child.communicate(b"\n")
    assert families([]) == set()


def measured(*rates: float, gateway: float = 0.97, busiest: float = 0.5, failed: int = 0) -> dict[str, Form]:
    shares = {"gateway": [gateway], "callers": [0.4], "busiest": [busiest], "stores": [0.1]}
    return {form: Form(list(rates), **shares, failed=failed) for form in ("plain", "stream")}


def found(**workers: Any) -> dict[str, Any]:
    given: Measured = {int(name[1:]): forms for name, forms in workers.items()}
    return report(given, {"cores": 16}, "sqlite")


def test_efficiency_is_the_rate_of_each_worker_over_that_of_a_single_one() -> None:
    shown = found(w1=measured(90, 110, 100), w4=measured(300, 360, 320))["workers"]
    assert (shown["1"]["plain"]["efficiency"], shown["4"]["plain"]["efficiency"]) == (1.0, 0.8)
    assert shown["4"]["stream"] | {"busy": {}} == {
        "tokens_per_s": 5120, "least": 4800, "most": 5760, "busy": {}, "failed": 0, "efficiency": 0.8,
    }  # fmt: skip


def test_the_table_has_a_line_for_each_number_of_workers() -> None:
    lines = table(found(w1=measured(1000), w2=measured(1900))).splitlines()
    assert lines[-1] == "| 2 | 1,900 | 0.95 | 30,400 | 0.95 | 97% / 97% | 40% / 40% (50% / 50%) | 10% / 10% | 0 |"


def test_a_number_that_was_not_measured_is_missing() -> None:
    assert list(found(w1=measured(1000), w2=measured())["workers"]) == ["1"]


def test_a_reader_is_told_when_the_callers_were_what_limited_and_of_wrong_answers() -> None:
    assert notes(found(w1=measured(1000))["workers"]["1"]) == []
    said = notes(found(w1=measured(1000, gateway=0.5, busiest=0.99, failed=3))["workers"]["1"])
    assert "the gateway was 50% busy" in said[0]
    assert "the callers had no time left" in said[0]
    assert said[1] == "plain: 3 answers were wrong."


def test_what_two_turns_found_is_taken_together() -> None:
    first, second = measured(1, failed=1)["plain"], measured(2, 3, failed=2)["plain"]
    add(first, second)
    assert (first.per_second, first.gateway, first.failed) == ([1, 2, 3], [0.97, 0.97], 3)


def test_more_workers_than_the_cores_carry_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--workers", "256"]) == 2
    assert "256 workers are left out" in capsys.readouterr().err


def test_no_number_of_workers_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--workers", "0,1"])
    assert "'0,1' is no list of numbers above 0" in capsys.readouterr().err


def test_a_run_measures_two_workers_with_two_processes_of_callers(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "loadtests.bench.workers", "--workers", "2", "--crowded", "--loads", "2"]
    command += ["--seconds", "0.2", "--connections-per-worker", "2", "--ledger", "sqlite"]
    done = subprocess.run(
        [*command, "--json", str(tmp_path / "json")], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=110, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "wrong" not in done.stderr
    written = json.loads((tmp_path / "json").read_text())
    assert written["ledger"] == "sqlite"
    assert len(written["machine"]["callers_cores"]) == 2
    for form, rate in (("plain", "requests_per_s"), ("stream", "tokens_per_s")):
        shown = written["workers"]["2"][form]
        assert shown[rate] > 0
        assert shown["failed"] == 0
        assert set(shown["busy"]) == {"gateway", "callers", "busiest_caller", "stores"}
        assert shown["busy"]["gateway"] > 0
    assert done.stdout.splitlines()[2].startswith("| 2 | ")
