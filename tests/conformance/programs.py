"""Server processes that anybody can stop and start by a shell command, since all that is known of them lies in files."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.conformance import listening

_START_SECONDS = 30


class CannotStart(Exception):
    """A server did not come up; the message names its log."""


@dataclass(frozen=True)
class Program:
    """A server on a loopback port. `NAME.pid` is there as long as its process is; `NAME.log` has what it printed.

    The commands need nothing but a shell; they read `environment` from the process that runs them.
    """

    name: str
    folder: Path
    port: int
    command: tuple[str, ...]
    environment: Mapping[str, str]
    exit_seconds: int = 10

    @property
    def pid_file(self) -> Path:
        return self.folder / f"{self.name}.pid"

    @property
    def log(self) -> Path:
        return self.folder / f"{self.name}.log"

    def start_command(self) -> str:
        """Starts in the background and returns when the port is open. The subshell waits for the process, so no zombie stays."""
        pid, log = shlex.quote(str(self.pid_file)), shlex.quote(str(self.log))
        server = f"{shlex.join(self.command)} >>{log} 2>&1 </dev/null & echo $! >{pid}; wait $!; rm -f {pid}"
        ready = [sys.executable, listening.__file__, str(self.port), str(self.pid_file), str(_START_SECONDS)]
        # The file is there before the process is, so that one which ends at once is not taken for one that is to come.
        return f": >{pid}; ( {server} ) >/dev/null 2>&1 & {shlex.join(ready)}"

    def signal_command(self) -> str:
        """Asks the process to end, and does not wait."""
        return f'kill -TERM "$(cat {shlex.quote(str(self.pid_file))})"'

    def wait_command(self) -> str:
        """Returns when the process has ended; fails when it takes longer than `exit_seconds`."""
        late = f"{{ echo {self.name} has not ended after {self.exit_seconds} s >&2; exit 1; }}"
        pid = shlex.quote(str(self.pid_file))
        return (
            f"n=0; while [ -e {pid} ]; do n=$((n+1)); [ $n -le {self.exit_seconds * 20} ] || {late}; sleep 0.05; done"
        )

    def start(self) -> None:
        """Start it; raises CannotStart."""
        try:
            run(self.start_command(), self.environment)
        except subprocess.CalledProcessError as error:
            raise CannotStart(f"{self.name} did not start ({error.stderr.strip()}): see {self.log}") from error

    def stop(self) -> None:
        """End it by its id: politely, then not."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            with suppress(
                FileNotFoundError, ProcessLookupError, ValueError
            ):  # it has ended by itself, or is just ending
                os.kill(int(self.pid_file.read_text(encoding="ascii")), number)
                self._wait()

    def _wait(self) -> None:
        deadline = time.monotonic() + self.exit_seconds
        while self.pid_file.exists() and time.monotonic() < deadline:
            time.sleep(0.02)


def run(command: str, environment: Mapping[str, str]) -> None:
    """One of the shell commands above; raises CalledProcessError with its complaint."""
    subprocess.run(command, shell=True, check=True, env=environment, stderr=subprocess.PIPE, text=True, timeout=60)  # noqa: S602  # they are shell commands


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody uses at the moment, all different."""
    with ExitStack() as held:
        probes = [held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [int(probe.getsockname()[1]) for probe in probes]
