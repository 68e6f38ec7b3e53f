import argparse
import json
from pathlib import Path

import pytest

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
