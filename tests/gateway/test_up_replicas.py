"""`passerelle up --replicas 2 --adapter …` as an operator types it: two real model servers, one of them killed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from openai import AsyncOpenAI

from auth.principal import SCOPES_OF_ROLE
from auth.signing import keys_from_folder
from auth.tokens import Tokens
from tests.vllm_server import MAKE_TINY_FALCON, free_port

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(600)]

CONFIG = """
[state]
directory = "{folder}"
[limits]
requests_per_minute = 0
[routing]
probe_seconds = 0.2
[guards]
language.mode = "annotate"
moderation.mode = "annotate"
leaks.mode = "annotate"
loops.mode = "annotate"
"""
BASE, ADAPTER = "tiny-falcon3", "feedback"
QUESTION: list[Any] = [{"role": "user", "content": "Comment déposer un avis ?"}]
READY = re.compile(r"replica (\d): \S+ is ready on http://127\.0\.0\.1:(\d+)/v1")
ASKED = re.compile(r"^vllm:request_success_total\{.*\} ([\d.]+)$", re.MULTILINE)


class Up:
    """The command as a process of its own, and what it has said."""

    def __init__(self, folder: Path, *words: str) -> None:
        self.folder, self.port = folder, free_port()
        (folder / "passerelle.toml").write_text(CONFIG.format(folder=folder), encoding="utf-8")
        command = [sys.executable, "-m", "gateway.cli", "up", "--config", str(folder / "passerelle.toml"), *words]
        self.process = subprocess.Popen(
            [*command, "--gateway-port", str(self.port)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.said: list[str] = []
        self._heard = threading.Condition()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._heard:
                self.said.append(line.rstrip())
                self._heard.notify_all()

    def hear(self, pattern: str, times: int = 1, seconds: float = 280) -> None:
        """Wait until so many lines hold the pattern."""
        with self._heard:
            heard = self._heard.wait_for(lambda: sum(bool(re.search(pattern, x)) for x in self.said) >= times, seconds)
        assert heard, "\n".join(self.said[-30:])

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)
        self._listener.join()
        assert self.process.stdout is not None
        self.process.stdout.close()
        return self.process.returncode

    def ports(self) -> dict[int, int]:
        """The replicas that were ready, by their numbers."""
        return {int(found[1]): int(found[2]) for line in self.said if (found := READY.search(line))}

    def asked(self, replica: int) -> float:
        """How many requests a model server says it has answered since it was started."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.ports()[replica]}/metrics", timeout=30) as answer:
            return sum(float(count) for count in ASKED.findall(answer.read().decode()))

    def server(self, replica: int) -> psutil.Process:
        """The model server's own process."""
        words = ("vllm.entrypoints.openai.api_server", str(self.ports()[replica]))
        below = psutil.Process(self.process.pid).children(recursive=True)
        return next(
            process
            for process in below
            if set(words) <= set(process.cmdline()) and "leash" not in str(process.cmdline())
        )

    @contextlib.asynccontextmanager
    async def client(self) -> AsyncIterator[AsyncOpenAI]:
        """The official SDK, its token signed with the gateway's key; it never tries twice."""
        tokens = Tokens(keys_from_folder(self.folder / "signing-keys"), "passerelle", "passerelle", 900)
        token = tokens.issue("alice", scopes=SCOPES_OF_ROLE["member"], tenant="acme", may_leave=False)
        async with AsyncOpenAI(base_url=f"http://127.0.0.1:{self.port}/v1", api_key=token, max_retries=0) as client:
            yield client


async def answer(client: AsyncOpenAI, model: str = BASE) -> str:
    given = await client.chat.completions.create(
        model=model, messages=QUESTION, max_tokens=8, temperature=0, extra_body={"ignore_eos": True}
    )
    return given.choices[0].message.content or ""


@pytest.fixture(scope="module")
def up(vllm_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """Two replicas that are ready, and the gateway; what is left of them at the end is killed."""
    model, adapter, state = (tmp_path_factory.mktemp("up") / name for name in (BASE, ADAPTER, "state"))
    for folder in (model, adapter, state):
        folder.mkdir()
    made = subprocess.run(
        [vllm_python, "-I", MAKE_TINY_FALCON, model, adapter], capture_output=True, text=True, timeout=120, check=False
    )
    assert made.returncode == 0, made.stderr[-2000:]
    words = ("--model", str(model), "--adapter", f"{ADAPTER}={adapter}", "--cpu", "--replicas", "2")
    started = Up(state, *words, "--vllm-python", str(vllm_python), "--max-num-seqs", "4")
    try:
        started.hear("gateway ready at")
        started.hear(READY.pattern, times=2)
        yield started
        assert started.stop() == 0
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(started.process.pid, signal.SIGKILL)


async def test_the_adapter_answers_otherwise_than_its_base_and_both_are_listed(up: Up) -> None:
    async with up.client() as client:
        assert [model.id async for model in client.models.list()] == [BASE, ADAPTER]
        base, tuned = await answer(client), await answer(client, ADAPTER)
        assert base != tuned
        assert {base, tuned} & {""} == set()
        assert (await answer(client), await answer(client, ADAPTER)) == (base, tuned)


async def test_both_replicas_answer_and_each_has_a_log_and_cores_of_its_own(up: Up) -> None:
    before = {replica: up.asked(replica) for replica in (1, 2)}
    async with up.client() as client:
        for _ in range(12):
            await answer(client)
    assert all(up.asked(replica) > before[replica] for replica in (1, 2))
    assert sorted(path.name for path in up.folder.glob("model-server*")) == ["model-server-1.log", "model-server-2.log"]
    cores = [up.server(replica).environ()["VLLM_CPU_OMP_THREADS_BIND"] for replica in (1, 2)]
    assert len(set(cores)) == 2


async def test_new_workers_take_over_and_up_goes_on(up: Up) -> None:
    up.process.send_signal(signal.SIGUSR2)
    async with asyncio.timeout(60):
        while "renewal_done" not in (up.folder / "gateway.log").read_text():  # noqa: ASYNC110  # another process
            await asyncio.sleep(0.1)
    async with up.client() as client:
        assert await answer(client)
    assert up.process.poll() is None


async def test_one_that_is_killed_is_missed_by_nobody_and_comes_back(up: Up) -> None:
    killed = up.server(1)
    killed.kill()
    async with up.client() as client:
        assert all([await answer(client, model) for _ in range(6) for model in (BASE, ADAPTER)])
        up.hear(r"replica 1: the model server ended while serving with exit code 137")
        assert up.server(2).is_running()
        up.hear(READY.pattern, times=3)
        first = up.asked(1)
        for _ in range(60):
            await answer(client)
            if up.asked(1) > first:
                break
        else:
            pytest.fail("the replica that is back gets no requests")
    assert up.server(1).pid != killed.pid
    assert not any("replica 2" in line and "restart" in line for line in up.said)
