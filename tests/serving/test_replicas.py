"""Several model servers at once, against small real processes in vLLM's place."""

from pathlib import Path

import pytest

from serving.plan import Plan
from serving.replicas import Replicas
from serving.server import ServerError
from tests.serving.calls import call
from tests.serving.test_server import QUICK, child_of, gone, kill_the_process_behind, plan, ready_again


def replicas(folder: Path, said: list[str], *plans: Plan) -> Replicas:
    return Replicas(plans, folder=folder, progress=said.append, patience=QUICK)


def all_ready(started: Replicas) -> None:
    started.wait_for(lambda: started.ready == len(started.servers) or started.failed)
    assert started.ready == len(started.servers)


def logs(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_all_start_each_with_a_log_of_its_own_and_leave_nothing_behind(tmp_path: Path) -> None:
    said: list[str] = []
    with replicas(tmp_path, said, plan(), plan()) as started:
        all_ready(started)
        children = [child_of(server) for server in started.servers]
    assert gone(*children)
    assert [server.state for server in started.servers] == ["stopped", "stopped"]
    assert logs(tmp_path) == ["model-server-1.log", "model-server-2.log"]
    assert {line[:11] for line in said if "is ready on" in line} == {"replica 1: ", "replica 2: "}


def test_a_single_one_has_the_log_and_the_words_of_a_single_one(tmp_path: Path) -> None:
    said: list[str] = []
    with replicas(tmp_path, said, plan()):
        pass
    assert logs(tmp_path) == ["model-server.log"]
    assert said[-1].startswith("fake is ready on")
    with pytest.raises(ServerError, match=r"^the model server ended while starting with exit code 1"):
        replicas(tmp_path, said, plan("--broken", "too large")).__enter__()


def test_it_goes_on_as_soon_as_one_is_ready(tmp_path: Path) -> None:
    said: list[str] = []
    slow = plan("--green-but-dead")
    with replicas(tmp_path, said, slow, plan()) as started:
        assert [server.state for server in started.servers] == ["starting", "ready"]
        assert "1 of 2 replicas ready, 1 still starting" in said
        late = child_of(started.servers[0])
    assert gone(late)
    assert not any("failed" in line for line in said)


def test_one_that_cannot_start_is_told_and_does_not_stop_the_others(tmp_path: Path) -> None:
    said: list[str] = []
    with replicas(tmp_path, said, plan("--broken", "too large"), plan()) as started:
        started.wait_for(lambda: started.servers[0].state == "failed")
        assert not started.failed
        assert call(started.servers[1].plan.port, "/health")[0] == 200
    assert any(line.startswith("replica 1: failed for good: ") and "too large" in line for line in said)


def test_when_none_can_start_the_reason_is_said(tmp_path: Path) -> None:
    said: list[str] = []
    with pytest.raises(ServerError, match=r"(?s)^none of 2 replicas could be started; the last one: .*too large"):
        replicas(tmp_path, said, plan("--broken", "too large"), plan("--broken", "too large")).__enter__()


def test_a_port_in_use_is_a_failure_and_no_wait_without_end(tmp_path: Path) -> None:
    taken = plan()
    with replicas(tmp_path, [], taken), pytest.raises(ServerError, match="choose another with --port"):
        replicas(tmp_path, [], taken).__enter__()


def test_each_is_restarted_on_its_own_and_all_have_failed_when_the_last_one_has(tmp_path: Path) -> None:
    said: list[str] = []
    with replicas(tmp_path, said, plan(), plan()) as started:
        all_ready(started)
        first, second = started.servers
        untouched = child_of(second)
        for count in range(QUICK.restarts):
            kill_the_process_behind(first)
            ready_again(first, starts=count + 2)
        kill_the_process_behind(first)
        started.wait_for(lambda: first.state == "failed")
        assert (started.failed, second.starts, child_of(second).pid) == (False, 1, untouched.pid)
        assert any(line.startswith("replica 1: given up after 2 restarts") for line in said)
        for count in range(QUICK.restarts):
            kill_the_process_behind(second)
            ready_again(second, starts=count + 2)
        kill_the_process_behind(second)
        started.wait_for(lambda: started.failed)
