import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import serving
from serving.commands import add_commands


def run(*words: str) -> int:
    parser = argparse.ArgumentParser()
    add_commands(parser.add_subparsers(required=True))
    arguments = parser.parse_args(words)
    return int(arguments.func(arguments))


@pytest.mark.parametrize("command", ["plan", "serve"])
def test_help_ends_with_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run(command, "--help")
    assert ended.value.code == 0
    assert f"passerelle {command}" in capsys.readouterr().out.partition("examples:")[2]


def test_plan_prints_the_command_and_a_reason_for_each_setting(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("plan", "--cpu", "--model", "gemma-3-270m", "--vllm-python", "/bin/sh") == 0
    printed = capsys.readouterr().out
    assert "licence: Gemma Terms of Use" in printed
    assert "--enforce-eager" in printed
    assert "/bin/sh -m vllm.entrypoints.openai.api_server --model" in printed


def test_plan_as_json_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("plan", "--cpu", "--json", "--model", "gemma-3-270m", "--vllm-python", "/bin/sh") == 0
    assert json.loads(capsys.readouterr().out)["served_name"] == "gemma-3-270m"


def test_a_plan_for_another_machine_needs_no_vllm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PASSERELLE_VLLM_PYTHON", str(tmp_path / "nothing"))
    assert run("plan", "--gpu", "RTX A4500", "--model", "falcon-7b-instruct") == 0
    printed = capsys.readouterr().out
    assert "falcon-7b-instruct on 1 × RTX A4500" in printed
    assert "setting " in printed.splitlines()[3]
    assert "\n  python -m vllm.entrypoints.openai.api_server --model tiiuae/falcon-7b-instruct " in printed
    assert "key/value cache" in printed
    assert "output tokens/s expected" in printed


def test_a_plan_of_this_machine_needs_no_vllm_either(tmp_path: Path) -> None:
    shutil.copytree(Path(serving.__file__).parent, tmp_path / "serving", ignore=shutil.ignore_patterns("__pycache__"))
    code = (
        "import argparse, serving.commands as c; p = argparse.ArgumentParser(); c.add_commands(p.add_subparsers());"
        "a = p.parse_args(['{}', '--cpu', '--model', 'smollm2-135m-instruct']); raise SystemExit(a.func(a))"
    )
    environment = {"PYTHONPATH": str(tmp_path), "PATH": "/nowhere", "HOME": str(tmp_path)}
    plan, serve = (
        subprocess.run(
            [sys.executable, "-c", code.format(word)], capture_output=True, text=True, cwd=tmp_path, env=environment
        )
        for word in ("plan", "serve")
    )
    assert "\n  python -m vllm.entrypoints.openai.api_server" in plan.stdout
    assert (plan.returncode, serve.returncode) == (0, 1)
    assert serve.stderr.startswith("passerelle: vLLM is not installed")


def test_several_cards_and_nodes_are_planned_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--gpus", "1xH100", "--nodes", "2", "--model", "falcon-40b-instruct", "--quantization", "none", "--json"]
    assert run("plan", *words) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["machine"] == "2 × H100 on 2 nodes"
    at = plan["argv"].index("--pipeline-parallel-size")
    assert plan["argv"][at : at + 4] == ["--pipeline-parallel-size", "2", "--distributed-executor-backend", "ray"]
    assert plan["expected"]["throughput"]["1"] > 0
    assert sum(plan["memory"].values()) == 81559 << 20


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--gpu", "H1000"], "--gpu H1000: no such card; the nearest are H100"),
        (["--gpu", "L4", "--cpu"], "--cpu leaves GPUs alone, and the plan is for L4"),
        (["--adapter", "x"], "--adapter x: must be NAME=FOLDER"),
        (["--quantization", "int3"], "--quantization int3: allowed are none, fp8, awq, bitsandbytes"),
        (["--port", "70000"], "--port 70000: must be 0 to 65535"),
        (["--gpus", ""], "--gpus '': must be a number and a card"),
        (["--gpus", "8000xH100"], "--gpus '8000xH100': must be at most 64 of one machine"),
        (["--nodes", "0"], "--nodes 0: must be 1 or more"),
    ],
)
def test_a_mistake_in_the_options_is_one_sentence(
    words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("plan", *words) == 1
    printed = capsys.readouterr()
    assert printed.err.startswith(f"passerelle: {sentence}")
    assert printed.err.count("\n") == 1


def test_gpu_and_gpus_exclude_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run("plan", "--gpu", "L4", "--gpus", "2xL4")
    assert "not allowed with argument" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["plan", "serve"])
def test_a_mistake_is_one_sentence_and_exit_code_one(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(command, "--model", "falcon-7c", "--vllm-python", "/bin/sh") == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("passerelle: --model falcon-7c: no such profile")
    assert printed.err.count("\n") == 1


def test_a_server_that_cannot_start_is_told_with_its_last_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho 'ValueError: no room' >&2\nexit 1\n")
    broken.chmod(0o755)
    words = ["--model", "someone/model", "--cpu", "--vllm-python", str(broken), "--port", "0"]
    assert run("serve", *words) == 1
    assert "ValueError: no room" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--gpus", "8xH100"], "7 of 8 GPUs stay idle: `passerelle up --replicas 8` serves on 8 of them"),
        (
            ["--gpus", "5xH100", "--model", "falcon-40b-instruct"],
            "3 of 5 GPUs stay idle: `passerelle up --replicas 2`",
        ),
        (["--gpus", "2xH100", "--model", "falcon-40b-instruct"], ""),
        (["--gpu", "H100"], ""),
        (["--cpu", "--model", "gemma-3-270m"], ""),
    ],
)
def test_gpus_that_stay_idle_are_told(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("plan", *words, "--vllm-python", "/bin/sh") == 0
    printed = capsys.readouterr().out
    assert said in printed
    assert ("stay idle" in printed) is bool(said)
