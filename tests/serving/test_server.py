"""The model server's life, against a small real process in vLLM's place."""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from serving.plan import Plan
from serving.server import ModelServer, Patience, ServerError
from tests.serving.calls import call
from tests.vllm_server import free_port

FAKE = Path(__file__).parent / "fake_vllm.py"
QUICK = Patience(start=20, probe_every=0.02, report_every=0.0, grace=0.3, restarts=2, first_pause=0.01)


def plan(*words: str, port: int | None = None) -> Plan:
    port = port or free_port()
    return Plan(
        profile="fake",
        device="cpu",
        argv=(sys.executable, str(FAKE), "--port", str(port), *words),
        environment={"FAKE_SETTING": "from-the-plan"},
        host="127.0.0.1",
        port=port,
        model="fake",
        served_name="fake",
        context_length=2048,
        licence="none",
        defaults={"temperature": 0.0},
    )


def child_of(server: ModelServer) -> psutil.Process:
    return psutil.Process(json.loads(call(server.plan.port, "/child")[1])["child"])


def ended(process: psutil.Process) -> bool:
    """One that nobody has collected yet has ended too."""
    return not process.is_running() or bool(process.status() == psutil.STATUS_ZOMBIE)


def gone(*processes: psutil.Process) -> bool:
    """Wait a few seconds for all to end."""
    until = time.monotonic() + 5
    while not all(ended(process) for process in processes) and time.monotonic() < until:
        os.sched_yield()
    return all(ended(process) for process in processes)


def kill_the_process_behind(server: ModelServer) -> None:
    with contextlib.suppress(OSError, http.client.HTTPException):
        call(server.plan.port, "/die", {})


def ready_again(server: ModelServer, starts: int) -> None:
    assert server.wait_for(lambda: server.state == "ready" and server.starts == starts, seconds=20), server.failure


def test_it_is_ready_once_a_chat_is_answered_and_leaves_nothing_behind(tmp_path: Path) -> None:
    said: list[str] = []
    log = tmp_path / "vllm.log"
    with ModelServer(plan(), log=log, progress=said.append, patience=QUICK) as server:
        assert server.wait_for(lambda: server.state == "ready", seconds=0)
        assert server.base_url == f"http://127.0.0.1:{server.plan.port}/v1"
        assert (server.served_name, server.context_length, server.defaults) == ("fake", 2048, {"temperature": 0.0})
        child = child_of(server)
    assert server.state == "stopped"
    assert gone(child)
    assert "from-the-plan" in log.read_text()
    assert "is ready on" in said[-1]


def test_a_process_that_ignores_the_request_to_end_is_killed_after_the_grace() -> None:
    with ModelServer(plan("--stubborn"), patience=QUICK) as server:
        child = child_of(server)
        parent = child.parent()
    assert parent is not None
    assert gone(child, parent)


def test_a_death_at_the_start_tells_the_last_meaningful_words() -> None:
    with pytest.raises(ServerError) as failed:
        ModelServer(plan("--broken", "the model is too large"), patience=QUICK).__enter__()
    assert "exit code 1" in str(failed.value)
    assert "ValueError: the model is too large" in str(failed.value)
    assert "Traceback" not in str(failed.value)


def test_a_green_health_over_a_dead_engine_is_not_ready() -> None:
    said: list[str] = []
    hasty = Patience(start=1.0, probe_every=0.02, report_every=0.0, grace=0.3)
    with pytest.raises(ServerError, match="not ready after 1 s"):
        ModelServer(plan("--green-but-dead"), progress=said.append, patience=hasty).__enter__()
    assert any("s of about 60 s" in line for line in said)


def test_a_port_in_use_is_said_before_anything_starts() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ServerError, match="choose another with --port"):
            ModelServer(plan(port=taken.getsockname()[1]), patience=QUICK).start()


def test_a_death_while_serving_is_followed_by_a_restart() -> None:
    said: list[str] = []
    with ModelServer(plan(), progress=said.append, patience=QUICK) as server:
        first = child_of(server)
        kill_the_process_behind(server)
        ready_again(server, starts=2)
        assert server.restarts == 1
        assert child_of(server).pid != first.pid
        assert gone(first)
    assert any("exit code 3" in line and "restart 1 of 2" in line for line in said)


def test_restarts_are_bounded() -> None:
    with ModelServer(plan(), patience=QUICK) as server:
        for count in (1, 2):
            kill_the_process_behind(server)
            ready_again(server, starts=count + 1)
        kill_the_process_behind(server)
        assert server.wait() == "failed"
        assert "given up after 2 restarts" in server.failure
    assert server.state == "failed"


def test_restarts_are_forgiven_after_a_long_good_time() -> None:
    now = [0.0]
    with ModelServer(plan(), patience=QUICK, clock=lambda: now[0]) as server:
        for count in range(QUICK.restarts + 2):
            now[0] += QUICK.forgiven_after
            kill_the_process_behind(server)
            ready_again(server, starts=count + 2)
        assert server.restarts == 1


def test_the_process_ends_with_its_owner_even_when_the_owner_is_killed() -> None:
    served = plan()
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, json.dumps([served.argv, served.port])], stdout=subprocess.PIPE, text=True
    )
    with owner:
        assert owner.stdout is not None
        child = psutil.Process(int(owner.stdout.readline()))
        os.kill(owner.pid, signal.SIGKILL)
    assert gone(child)


OWNER = """
import json, sys, urllib.request
from serving.plan import Plan
from serving.server import ModelServer
argv, port = json.loads(sys.argv[1])
plan = Plan("fake", "cpu", tuple(argv), {}, "127.0.0.1", port, "fake", "fake", 2048, "none")
server = ModelServer(plan).start()
with urllib.request.urlopen(plan.url + "/child") as reply:
    print(json.load(reply)["child"], flush=True)
server.wait()
"""
