"""The harness itself: with stand-ins for runner and fakes, and with a real runner where the environment names one."""

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from gateway.settings import load
from tests.conformance.__main__ import main
from tests.conformance.cases import BadCases, groups, read
from tests.conformance.description import description
from tests.conformance.programs import CannotStart, Program, free_ports, run
from tests.conformance.stage import CONFIGURATION, ROOT, Stage, fakes, stage
from tests.upstream import Exchange, chunk, upstream

OURS = Path(__file__).with_name("cases.jsonl")
RUNNER = os.environ.get("PASSERELLE_CONFORMANCE_RUNNER")
FAKE = os.environ.get("PASSERELLE_CONFORMANCE_FAKE") or (RUNNER and str(Path(RUNNER).with_name("fake_upstream.py")))

# A runner that gives each case the result its id asks for, and fakes that only listen.
TOY_RUNNER = """
import json, sys
config = json.load(open(sys.argv[sys.argv.index("--config") + 1]))
for line in open(sys.argv[-1]):
    case = json.loads(line)
    if case["id"].startswith("break"):
        raise RuntimeError
    print(case["id"].split("-")[0] + "  " + case["id"] + f"  limited logins: {config['login_limited']}", flush=True)
print("9 passed, 9 failed, 9 skipped")
"""
TOY_FAKE = """
import http.server, sys
http.server.HTTPServer(("127.0.0.1", int(sys.argv[-1].rpartition(":")[2])), http.server.BaseHTTPRequestHandler).serve_forever()
"""
MODEL = "tiiuae/falcon-7b-instruct"


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def written(folder: Path, cases: dict[str, list[str]]) -> Path:
    path = folder / "cases.jsonl"
    lines = (json.dumps({"id": name, "needs": needs}) for name, needs in cases.items())
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


@pytest.fixture
def toys(tmp_path: Path) -> list[str]:
    (tmp_path / "runner.py").write_text(TOY_RUNNER, encoding="utf-8")
    (tmp_path / "fake.py").write_text(TOY_FAKE, encoding="utf-8")
    return ["--runner", str(tmp_path / "runner.py"), "--fake", str(tmp_path / "fake.py")]


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Stage]:
    with stage(tmp_path, {}) as made:
        yield made


def test_the_written_configuration_has_the_limits_that_cases_count_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONFORMANCE_VLLM_KEY", "a")
    settings = load(CONFIGURATION)
    assert (settings.times.connect, settings.times.first_content, settings.times.idle) == (2, 3, 2)
    assert (settings.server.body_limit_bytes, settings.server.shutdown_seconds) == (1024 * 1024, 5)
    assert (settings.guards.language.mode, settings.guards.terms.mode) == ("annotate", "enforce")
    assert [len(term) > 5 for term in settings.guards.terms.terms] == [True, False]


def test_the_hooks_stop_and_start_the_limits_store(running: Stage) -> None:
    assert listens(running.redis.port)
    run(running.hooks["stop_redis"], running.environment)
    assert not listens(running.redis.port)
    assert not running.redis.pid_file.exists()
    run(running.hooks["start_redis"], running.environment)
    assert listens(running.redis.port)


def test_the_runner_is_told_of_users_who_can_do_what_they_should(running: Stage) -> None:
    told = description(running)
    ask = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": "Bonjour"}]})
    for token in (told["token"], told["limited_token"]):
        with pytest.raises(CannotStart, match="gave 50"):  # let in, but there is no model server here
            running.request(told["chat"], "application/json", ask, token)
    with pytest.raises(CannotStart, match="gave 401"):
        running.request(told["chat"], "application/json", ask, "wrong")
    new = json.dumps({"username": "zoé", "password": "motdepasse-7"})
    admin = told["register"]["headers"]["authorization"].removeprefix("Bearer ")
    assert running.request(told["register"]["path"], "application/json", new, admin)["username"] == "zoé"


async def test_sigterm_lets_an_open_stream_go_on_then_ends_it_by_an_error_and_start_serves_again(
    tmp_path: Path,
) -> None:
    async def endless(exchange: Exchange) -> None:
        await exchange.head()
        while True:
            await exchange.text("mot ")
            await asyncio.sleep(0.1)

    async def short(exchange: Exchange) -> None:
        await exchange.head()
        await exchange.text("mot")
        await exchange.event(chunk({}, finish="stop"))
        await exchange.event("[DONE]")
        await exchange.end()

    async with upstream() as local, upstream() as outside:
        local.answers(endless, short)
        urls = {"vllm": local.url.removesuffix("/v1"), "openai": outside.url.removesuffix("/v1")}
        with stage(tmp_path, urls) as running:
            told = await asyncio.to_thread(description, running)
            async with openai.AsyncOpenAI(
                base_url=f"{told['base_url']}/v1", api_key=told["token"], max_retries=0
            ) as sdk:
                stream = await sdk.chat.completions.create(
                    model=MODEL, messages=[{"role": "user", "content": "Bonjour"}], stream=True
                )
                await anext(aiter(stream))
                await asyncio.to_thread(run, running.hooks["sigterm"], running.environment)
                asked = time.monotonic()
                with pytest.raises(openai.APIError) as ended:
                    async for _ in stream:
                        pass
                assert ended.value.code == "server_stopping"
                assert 4 < time.monotonic() - asked < 8
                await asyncio.to_thread(run, running.hooks["wait_exit"], running.environment)
                assert not listens(running.gateway.port)
                await asyncio.to_thread(run, running.hooks["start"], running.environment)
                completion = await sdk.chat.completions.create(
                    model=MODEL, messages=[{"role": "user", "content": "Bonjour"}]
                )
                assert completion.choices[0].message.content == "mot"


def test_nothing_runs_after_the_end(tmp_path: Path) -> None:
    (tmp_path / "fake.py").write_text(TOY_FAKE, encoding="utf-8")
    with fakes(tmp_path, tmp_path / "fake.py") as urls, stage(tmp_path, urls) as running:
        ports = [running.redis.port, running.gateway.port, *(int(url.rpartition(":")[2]) for url in urls.values())]
        assert all(map(listens, ports))
    assert not any(map(listens, ports))
    assert not list(tmp_path.glob("*.pid"))


def test_a_server_that_ends_at_once_is_told_with_its_log(tmp_path: Path) -> None:
    program = Program("lost", tmp_path, free_ports(1)[0], (sys.executable, "-c", "print('why')"), dict(os.environ))
    with pytest.raises(CannotStart, match=r"the process has ended.*lost\.log"):
        program.start()
    assert program.log.read_text(encoding="utf-8") == "why\n"


def test_cases_that_use_up_or_stop_something_are_alone(tmp_path: Path) -> None:
    needs = {"a": [], "b": ["login_limited"], "c": ["hook:sigterm"], "d": ["jwt_secret"], "e": ["limited_user"]}
    path = written(tmp_path, needs)
    assert [[case.id for case in group] for group in groups(read(path))] == [["a", "d"], ["b"], ["c"], ["e"]]
    assert [case.id for case in read(path, ["d"])] == ["d"]
    with pytest.raises(BadCases, match="no case z"):
        read(path, ["z"])


def test_all_passed_is_exit_code_0_and_limited_logins_get_an_instance_that_limits_them(
    toys: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["--cases", str(written(tmp_path, {"pass-1": ["login_limited"], "pass-2": []})), *toys]) == 0
    assert capfd.readouterr().out.splitlines() == [
        "pass  pass-2  limited logins: False",
        "pass  pass-1  limited logins: True",
        "2 passed, 0 failed, 0 skipped",
    ]


def test_a_failure_a_skip_and_a_broken_runner_are_counted_and_the_logs_named(
    toys: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    cases: dict[str, list[str]] = {"pass-1": [], "FAIL-1": [], "skip-1": [], "break-1": [], "pass-2": []}
    assert main(["--cases", str(written(tmp_path, cases)), *toys]) == 1
    *_, counts, logs = capfd.readouterr().out.splitlines()
    assert counts == "2 passed, 2 failed, 1 skipped"
    folder = Path(logs.split()[-1])
    assert (folder / "0" / "gateway.log").is_file()
    shutil.rmtree(folder)


def test_a_stopped_harness_stops_its_servers(tmp_path: Path, toys: list[str]) -> None:
    (tmp_path / "runner.py").write_text("import time; print('here', flush=True); time.sleep(60)", encoding="utf-8")
    command = [sys.executable, "-m", "tests.conformance", "--cases", str(written(tmp_path, {"pass-1": []})), *toys]
    temporary = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, cwd=ROOT, env=temporary, stdout=subprocess.PIPE, text=True) as harness:
        assert harness.stdout is not None
        assert harness.stdout.readline() == "here\n"
        assert len(list(tmp_path.glob("passerelle-*/0/*.pid"))) == 4
        harness.send_signal(signal.SIGTERM)
        assert harness.wait(30) == 143
    assert list(tmp_path.glob("passerelle-*/0/*.pid")) == []


@pytest.mark.timeout(300)
@pytest.mark.skipif(not RUNNER, reason="PASSERELLE_CONFORMANCE_RUNNER names no runner")
def test_our_own_cases_pass(capfd: pytest.CaptureFixture[str]) -> None:
    code = main(["--cases", str(OURS), "--runner", str(RUNNER), "--fake", str(FAKE)])
    assert "3 passed, 0 failed, 0 skipped" in capfd.readouterr().out
    assert code == 0
