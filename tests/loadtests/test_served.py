"""The benchmark in front of a running model server: its order, its command, its table, and runs with a stand-in for the tool."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from loadtests.bench.served.__main__ import main
from loadtests.bench.served.prompts import lengths, prompts
from loadtests.bench.served.report import report, table
from loadtests.bench.served.tool import Figures, Tool, arguments, read
from loadtests.bench.served.turns import Plan, Run, schedule
from loadtests.bench.sidebyside.rivals import litellm

ROOT = Path(__file__).parents[2]
BENCH = shlex.join([sys.executable, str(Path(__file__).with_name("fake_bench.py"))])
FIGURES = Figures(1000, 50, 40, 90, 8, 7, 20, 1100, 128, 3, 64, 0)


@pytest.fixture
def vllm() -> Iterator[str]:
    """The fake model server of the other benchmarks, in a process of its own."""
    process = subprocess.Popen(
        [sys.executable, "-m", "loadtests.bench.workers.load"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    yield str(json.loads(process.stdout.readline())["url"])
    process.communicate(timeout=20)


def test_the_order_is_rotated_and_mirrored() -> None:
    once = schedule([1, 4], ["a", "b", "c"], twice=False)
    assert once == [(1, "a"), (1, "b"), (1, "c"), (4, "b"), (4, "c"), (4, "a")]
    assert schedule([1, 4], ["a", "b", "c"], twice=True) == once + once[::-1]


def test_prompts_grow_with_the_requests_at_once() -> None:
    plan = Plan([1, 16, 64, 512], seed=1)
    assert [plan.asked(at_once) for at_once in plan.at_once] == [32, 64, 256, 1024]
    assert replace(plan, prompts=6).asked(512) == 6


@pytest.mark.parametrize("count", [1, 7, 32])
def test_answers_differ_in_length_and_have_the_mean_that_was_asked_for(count: int) -> None:
    found = lengths(100, 0.5, count)
    assert abs(sum(found) / count - 100) < 1
    assert min(found) >= 50
    assert max(found) <= 150
    assert len(set(found)) == count
    assert lengths(100, 0.0, count) == [100] * count


def test_no_two_prompts_begin_alike() -> None:
    made = [*prompts(1, 60, 50), *prompts(2, 60, 50)]
    assert len({prompt[:20] for prompt in made}) == 100
    assert prompts(1, 60, 50) == made[:50]
    assert all("?" in prompt for prompt in made)


def test_the_tool_is_asked_in_french(tmp_path: Path) -> None:
    words = arguments(Tool(["bench"], "falcon", "/models/falcon"), "http://127.0.0.1:1", 16, 64, 7, tmp_path)
    asked = dict(zip(words[1::2], words[2::2], strict=False))
    assert (asked["--dataset-name"], asked["--custom-output-len"]) == ("custom", "-1")
    lines = [json.loads(line) for line in Path(asked["--dataset-path"]).read_text(encoding="utf-8").splitlines()]
    assert len(lines) == 64
    assert sum(line["output_tokens"] for line in lines) == 64 * 128


def test_the_tool_is_asked_for_random_prompts_of_one_seed(tmp_path: Path) -> None:
    tool = Tool(["vllm", "bench", "serve"], "falcon", "/models/falcon", french=False)
    words = arguments(tool, "http://127.0.0.1:1", 16, 64, 7, tmp_path)
    assert words[:3] == ["vllm", "bench", "serve"]
    asked = dict(zip(words[3::2], words[4::2], strict=False))
    assert asked["--model"] == asked["--served-model-name"] == "falcon"
    assert (asked["--seed"], asked["--num-prompts"], asked["--max-concurrency"]) == ("7", "64", "16")
    assert "--ignore-eos" in words


def test_what_an_older_release_does_not_count_has_failed() -> None:
    times = {f"{which}_{metric}_ms": 1 for which in ("mean", "p50", "p99") for metric in ("ttft", "itl", "e2el")}
    figures = read({**times, "completed": 6, "output_throughput": 10, "total_output_tokens": 60, "duration": 6}, 8)
    assert (figures.failed, figures.answer_tokens) == (2, 10)


def shown(*runs: Run) -> dict[str, Any]:
    return report(runs, {"cores": 2}, {"output_len": 128})


def test_each_is_set_against_the_model_server_itself() -> None:
    slower = replace(FIGURES, output_tokens_per_s=950, mean_ttft=62.5)
    found = shown(Run(16, "passerelle", 2, slower, 0.4), Run(16, "direct", 1, FIGURES, None))
    assert "| 16 | passerelle | 950 | 95.0% | 62.5 | +12.5 | 90.0 | 8.00 | 0.40 | 0 |" in table(found).splitlines()
    assert "| 16 | direct | 1,000 | 100.0% | 50.0 |  | 90.0 | 8.00 |  | 0 |" in table(found).splitlines()


def test_of_two_runs_the_mean_is_shown_and_what_failed_is_added_up() -> None:
    found = shown(
        Run(1, "direct", 1, replace(FIGURES, failed=1), None), Run(1, "direct", 2, replace(FIGURES, mean_ttft=70), None)
    )
    (line,) = found["lines"]
    assert (line["mean_ttft"], line["failed"], line["completed"]) == (60, 1, 128)
    assert [run["seed"] for run in found["runs"]] == [1, 2]


def test_answers_that_were_ended_early_are_told() -> None:
    found = shown(Run(4, "passerelle", 1, replace(FIGURES, answer_tokens=90), 0.1))
    assert "passerelle, 4 at once: answers had 90 tokens in the mean and not 128" in table(found)


def test_a_run_goes_through_the_gateway_by_the_model_servers_name(vllm: str, tmp_path: Path, capfd: Any) -> None:
    options = ["--vllm", vllm, "--model", "m", "--tokenizer", "none", "--bench", BENCH, "--at-once", "1,2"]
    options += ["--prompts", "3", "--output-len", "16", "--only", "direct,passerelle", "--json", str(tmp_path / "json")]
    code = main([*options, "--annotate", "loops", "--seed", "5"])
    said = capfd.readouterr()
    assert code == 0, said.err
    written = json.loads((tmp_path / "json").read_text())
    lines = {(line["at_once"], line["contestant"]): line for line in written["lines"]}
    assert set(lines) == {(count, name) for count in (1, 2) for name in ("direct", "passerelle")}
    assert all((line["completed"], line["failed"]) == (3, 0) for line in lines.values())
    assert lines[1, "passerelle"]["cores"] >= 0  # the kernel counts in hundredths of a second
    assert "cores" not in lines[1, "direct"]
    assert written["annotating"] == ["loops"]
    assert len({run["seed"] for run in written["runs"]}) == 4
    assert said.out.startswith("| at once | contestant | output tokens/s |")


def test_what_fails_is_told_and_missing(vllm: str, capfd: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_BENCH_FAILS", "1")
    options = ["--vllm", vllm, "--model", "m", "--tokenizer", "none", "--at-once", "1", "--only", "direct,litellm"]
    assert main([*options, "--bench", BENCH, "--litellm", "/nowhere/litellm"]) == 1
    said = capfd.readouterr().err
    assert "litellm is left out: litellm is not installed" in said
    assert "direct, 1 at once, is left out" in said
    assert "the tokenizer is not there" in said


def test_a_model_that_is_not_served_is_refused(vllm: str, capfd: Any) -> None:
    assert main(["--vllm", vllm, "--model", "falcon", "--tokenizer", "none"]) == 2
    assert "serves m, and not falcon" in capfd.readouterr().err
    assert main(["--vllm", "http://127.0.0.1:9", "--model", "m", "--tokenizer", "none"]) == 2
    assert "no vLLM at http://127.0.0.1:9/v1" in capfd.readouterr().err


def test_a_guard_that_there_is_not_is_refused(capfd: Any) -> None:
    with pytest.raises(SystemExit):
        main(["--vllm", "http://127.0.0.1:9", "--model", "m", "--tokenizer", "none", "--annotate", "grammar"])
    assert "unknown: grammar; there are language, terms" in capfd.readouterr().err


def test_litellm_publishes_the_model_by_its_name(tmp_path: Path) -> None:
    contestant = litellm(tmp_path, "http://127.0.0.1:9/v1", model="falcon", program=Path(sys.executable))
    assert contestant.command[0] == sys.executable
    (model,) = json.loads((tmp_path / "litellm.yaml").read_text())["model_list"]
    assert (model["model_name"], model["litellm_params"]["model"]) == ("falcon", "openai/falcon")
    assert os.access(contestant.command[0], os.X_OK)
