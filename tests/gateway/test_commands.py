"""The commands as an operator types them: real processes, real signals."""

import asyncio
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gateway.cli import main
from tests.house import MODEL
from tests.upstream import Upstream, says, upstream
from tests.vllm_server import free_port

CONFIG = """
[server]
port = {port}
shutdown_seconds = 5
[state]
directory = "{folder}"
[targets.local]
kind = "vllm"
urls = ["{url}"]
model = "falcon"
[models."{model}"]
targets = ["local"]
"""

TARGET = "[targets.local]\nkind = 'vllm'\nurls = ['http://127.0.0.1:1/v1']\nmodel = 'falcon'\n"


def passerelle(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gateway.cli", *words],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=60,
        env={**os.environ, **environment},
        check=False,
    )


@contextmanager
def running(config: Path, port: int) -> Iterator[subprocess.Popen[str]]:
    """The gateway as its own process, ready."""
    command = [sys.executable, "-m", "gateway.cli", "gateway", "--config", str(config)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            assert any('"serving"' in line for line in process.stderr)
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/livez", timeout=5) as answer:
                assert answer.status == 200
            yield process
        finally:
            process.terminate()


def configured(folder: Path, fake: Upstream) -> tuple[Path, int]:
    port = free_port()
    config = folder / "passerelle.toml"
    config.write_text(CONFIG.format(port=port, folder=folder, url=fake.url, model=MODEL))
    return config, port


async def test_an_operator_checks_adds_a_user_starts_and_chats(tmp_path: Path) -> None:
    async with upstream() as fake:
        fake.answers(says("Votre avis est suivi ", "depuis votre espace personnel."))
        config, port = configured(tmp_path, fake)
        check = await asyncio.to_thread(passerelle, "config", "check", str(config))
        first = f"{MODEL}\n  1. local: 1 replica of falcon; unknown context length; 256 requests at once each\n"
        guards = (
            "guards: language enforce, terms off, personal_data enforce, injection enforce, moderation enforce, "
            "distress enforce, leaks enforce, loops enforce\n"
        )
        assert (check.returncode, check.stdout) == (0, first + guards)
        added = await asyncio.to_thread(passerelle, "users", "add", "alice", "--generate", "--config", str(config))
        assert added.returncode == 0, added.stderr
        chatted = await asyncio.to_thread(chat, config, port, added.stdout.strip())
    assert chatted == "Votre avis est suivi depuis votre espace personnel.\n"


def chat(config: Path, port: int, password: str) -> str:
    from gateway.commands.login import token

    url = f"http://127.0.0.1:{port}"
    with running(config, port):
        answer = passerelle(
            "chat", "--base-url", url, "Où en est mon avis ?", PASSERELLE_TOKEN=token(url, "alice", password)
        )
        refused = passerelle("chat", "--base-url", url, "Où ?", PASSERELLE_TOKEN="wrong")
    assert refused.returncode == 1
    assert "Traceback" not in refused.stderr
    return answer.stdout


async def test_sigterm_ends_the_gateway_in_order_and_frees_its_port(tmp_path: Path) -> None:
    async with upstream() as fake:
        config, port = configured(tmp_path, fake)
        await asyncio.to_thread(stopped, config, port)


def stopped(config: Path, port: int) -> None:
    with running(config, port) as process:
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=15) == 0
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[server]\nport = 'x'", "server.port holds 'x'"),
        ("[server]\nprot = 1", "server.prot is not a setting"),
        ("", "models is empty"),
        (TARGET + "price = { input = -1, output = 1 }", "targets.local.price.input holds -1"),
        (TARGET + "tasks = ['songs']", "targets.local.tasks.0 holds 'songs'"),
        ("[models.m]\ntargets = ['none']", "models.m.targets holds 'none'"),
    ],
)
def test_a_bad_configuration_stops_the_start_with_one_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "bad.toml").write_text(text)
    failed = passerelle("gateway", "--config", str(tmp_path / "bad.toml"))
    assert failed.returncode == 1
    assert sentence in failed.stderr
    assert failed.stderr.count("\n") == 1


def test_a_command_that_is_asked_nothing_on_an_empty_input_ends_in_one_sentence(tmp_path: Path) -> None:
    environment = {"PASSERELLE_STATE__DIRECTORY": str(tmp_path)}
    failed = passerelle("users", "add", "carl", **environment)
    assert failed.returncode == 1
    assert "Traceback" not in failed.stderr
    assert failed.stderr.splitlines()[0] == f"passerelle: in {tmp_path}"


def test_chat_without_a_token_says_what_to_do() -> None:
    failed = passerelle("chat", "Bonjour", PASSERELLE_TOKEN="")
    assert (failed.returncode, failed.stderr.count("\n")) == (1, 1)
    assert "--user NAME" in failed.stderr


def test_no_command_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "examples:" in capsys.readouterr().out


def test_the_least_length_of_a_password_is_the_configured_one(tmp_path: Path) -> None:
    config = tmp_path / "passerelle.toml"
    config.write_text(f'[state]\ndirectory = "{tmp_path}"\n[auth]\nminimum_password_length = 20\n', encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "gateway.cli",
        "users",
        "add",
        "alice",
        "--password-stdin",
        "--config",
        str(config),
    ]
    ended = subprocess.run(
        command, input="un deux trois quatr", capture_output=True, text=True, check=False, timeout=60
    )
    assert ended.returncode == 1
    assert "at least 20 characters" in ended.stderr
    assert (
        subprocess.run(
            command, input="un deux trois quatre", capture_output=True, text=True, check=False, timeout=60
        ).returncode
        == 0
    )


def test_a_check_shows_the_guards_in_force_and_names_tenants_that_do_not_exist(tmp_path: Path) -> None:
    config = tmp_path / "passerelle.toml"
    limits = "[limits.tenants.lost]\nconcurrent = 3\n[limits.users.bob]\nconcurrent = 3\n"
    tables = f"[guards.tenants.acme]\nlanguage.mode = 'annotate'\n[guards.tenants.typo]\n{limits}"
    text = f"[state]\ndirectory = '{tmp_path}'\n{TARGET}[models.m]\ntargets = ['local']\n{tables}"
    config.write_text(text)
    before = passerelle("config", "check", str(config))
    assert (before.returncode, before.stderr) == (0, "")
    assert not (tmp_path / "passerelle.db").exists()  # a check makes nothing
    assert passerelle("tenants", "add", "acme", "--config", str(config)).returncode == 0
    check = passerelle("config", "check", str(config))
    assert "guards.tenants.acme: language annotate\n" in check.stdout
    assert "guards.tenants.typo: as everybody has them, but for numbers and texts\n" in check.stdout
    assert check.stderr.splitlines() == [
        "passerelle: guards.tenants names 'typo', which is no tenant yet: passerelle tenants add typo",
        "passerelle: limits.tenants names 'lost', which is no tenant yet: passerelle tenants add lost",
        "passerelle: limits.users names 'bob', which is the id of no user or client, so it limits nobody: "
        "passerelle users list shows the ids",
    ]
