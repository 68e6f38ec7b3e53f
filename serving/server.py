"""The model server as a process: started, waited for, watched, restarted within bounds, stopped without leftovers.

with ModelServer(plan, progress=print) as server:
    client = OpenAI(base_url=server.base_url, api_key="none")
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from serving.errors import ServingError
from serving.log import Log
from serving.plan import Plan
from serving.probe import answers

State = Literal["new", "starting", "ready", "restarting", "failed", "stopped"]

LEASH = Path(__file__).resolve().parent / "leash.py"


class ServerError(ServingError):
    """The model server did not start or cannot be kept running; the sentence holds its last words."""


@dataclass(frozen=True)
class Patience:
    """Times in seconds. `restarts` are counted anew once the server was ready for `forgiven_after`."""

    start: float = 900.0
    probe_every: float = 0.5
    report_every: float = 5.0
    grace: float = 10.0
    restarts: int = 5
    first_pause: float = 1.0
    forgiven_after: float = 600.0


class ModelServer:
    """One vLLM process under a plan. Usable from synchronous code and from any thread.

    `log` is a file the server's output is appended to, `echo` gets each line of it, `progress` gets a line every few
    seconds while it starts and whenever it dies. `clock` is monotonic seconds. `changed` is notified of every change of state:
    several servers may share one.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        log: Path | None = None,
        echo: Callable[[str], None] | None = None,
        progress: Callable[[str], None] = lambda line: None,
        patience: Patience = Patience(),
        clock: Callable[[], float] = time.monotonic,
        changed: threading.Condition | None = None,
    ) -> None:
        self.plan = plan
        self.state: State = "new"
        self.starts = 0
        self.restarts = 0
        self.failure = ""
        self._log = Log(log, echo)
        self._log_file = log
        self._progress = progress
        self._patience = patience
        self._clock = clock
        self._stopping = threading.Event()
        self._changed = changed or threading.Condition()
        self._leash: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        self._watcher: threading.Thread | None = None

    @property
    def base_url(self) -> str:
        """What an OpenAI client takes, e.g. http://127.0.0.1:8001/v1."""
        return self.plan.base_url

    @property
    def served_name(self) -> str:
        """The model's name in requests."""
        return self.plan.served_name

    @property
    def context_length(self) -> int:
        """Tokens of prompt and answer together."""
        return self.plan.context_length

    @property
    def defaults(self) -> dict[str, Any]:
        """Fields to put into a chat request when the caller sets none."""
        return dict(self.plan.defaults)

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.stop()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> Self:
        """Return when the server has answered a chat of one token. Raises ServerError when it dies or takes too long."""
        self._enter("starting")
        try:
            self._check_port()
            self._spawn()
            self._wait_ready()
        except (ServerError, OSError) as error:
            self._end_process()
            if not self._stopping.is_set():
                self.failure = str(error)
                self._enter("failed")
            raise
        self._watcher = threading.Thread(target=self._watch, name="model-server", daemon=True)
        self._watcher.start()
        return self

    def stop(self) -> None:
        """End every process of the server: asked first, killed after the grace. Safe to call twice."""
        self._stopping.set()
        self._end_process()
        if self._watcher and self._watcher is not threading.current_thread():
            self._watcher.join()
        if self.state != "failed":
            self._enter("stopped")

    def wait(self) -> State:
        """Block until the server is stopped or has failed for good; `failure` then says why."""
        while not self.wait_for(lambda: self.state in {"stopped", "failed"}, seconds=1.0):
            pass  # in steps, so that a signal handler of the main thread gets its turn
        return self.state

    def wait_for(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Block until the condition holds, looking again whenever the state changes; False when the time is up."""
        with self._changed:
            return self._changed.wait_for(condition, seconds)

    def _enter(self, state: State) -> None:
        with self._changed:
            self.state = state
            self._changed.notify_all()

    def _check_port(self) -> None:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((self.plan.host, self.plan.port))
            except OSError as error:
                raise ServerError(
                    f"{self.plan.host} port {self.plan.port}: {error.strerror}; stop what uses it or choose another with --port"
                ) from error

    def _spawn(self) -> None:
        self.starts += 1
        command = [sys.executable, str(LEASH), str(self._patience.grace), *self.plan.argv]
        kept = {
            name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"}
        }
        self._leash = subprocess.Popen(  # noqa: S603 - the plan's words
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env={**kept, **self.plan.environment, "PYTHONUNBUFFERED": "1"},
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._log.read, args=[self._leash.stdout], daemon=True)
        self._reader.start()

    def _end_process(self) -> None:
        if self._leash is None:
            return
        if self._leash.stdin and not self._leash.stdin.closed:
            self._leash.stdin.close()  # the leash ends the group, gently first
        self._leash.wait()
        if self._reader:
            self._reader.join()
        if self._leash.stdout:
            self._leash.stdout.close()

    def _wait_ready(self) -> None:
        started = reported = self._clock()
        while True:
            if self._leash is not None and self._leash.poll() is not None:
                raise ServerError(self._death("while starting"))
            if self._stopping.is_set():
                raise ServerError("stopped while starting")
            if answers(self.plan):
                break
            now = self._clock()
            if now - started > self._patience.start:
                raise ServerError(
                    f"not ready after {self._patience.start:.0f} s ({self._log.phase}); its last words:\n{self._words()}"
                )
            if now - reported >= self._patience.report_every:
                reported = now
                self._progress(f"{self._log.phase}… {now - started:.0f} s of about {self.plan.expected_seconds} s")
            self._stopping.wait(self._patience.probe_every)
        self._progress(f"{self.served_name} is ready on {self.base_url} after {self._clock() - started:.0f} s")
        self._enter("ready")  # after its line, since whoever waits for it goes on to say more

    def _watch(self) -> None:
        """Restart the server when it dies, within bounds; runs in its own thread from the first readiness on."""
        ready_since = self._clock()
        while not self._stopping.is_set():
            if self._leash is not None:
                self._leash.wait()
            if self._stopping.is_set():
                return
            if self._clock() - ready_since >= self._patience.forgiven_after:
                self.restarts = 0
            self.failure = self._death("while serving")
            self._end_process()
            if self.restarts >= self._patience.restarts:
                self._give_up()
                return
            self._restart()
            if self.state == "ready":
                ready_since = self._clock()

    def _restart(self) -> None:
        pause = self._patience.first_pause * 2**self.restarts
        self.restarts += 1
        self._enter("restarting")
        self._progress(f"{self.failure}\nrestart {self.restarts} of {self._patience.restarts} in {pause:.0f} s")
        if self._stopping.wait(pause):
            return
        self._spawn()
        try:
            self._wait_ready()
        except ServerError as error:
            self.failure = str(error)
            self._end_process()

    def _give_up(self) -> None:
        self.failure = f"given up after {self.restarts} restarts: {self.failure}"
        self._progress(self.failure)
        self._enter("failed")

    def _words(self) -> str:
        where = f"\n  whole log: {self._log_file}" if self._log_file else ""
        return self._log.last_words() + where

    def _death(self, when: str) -> str:
        if self._reader:
            self._reader.join()
        code = self._leash.returncode if self._leash else None
        hint = "" if code != 137 else " (killed: most often by the system for memory; choose a smaller --model)"
        return f"the model server ended {when} with exit code {code}{hint}; its last words:\n{self._words()}"
