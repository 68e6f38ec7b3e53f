"""Starts the contestants' servers, pins them to cores, lets one of them run at a time, and says how much memory they have."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import aiohttp

_START_SECONDS = 120.0
_STOP_SECONDS = 20.0
_PAGE_MB = os.sysconf("SC_PAGE_SIZE") / 1e6


class NotStarted(Exception):
    """A server that does not answer; the message says what it said."""


@dataclass(frozen=True)
class Contestant:
    """How to start one and how to ask it. Without a `command` there is no server: `url` is the fake's."""

    name: str
    url: str  # without /v1
    command: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    ready: str = "/"  # a path that answers 200 when it is up


def free_port() -> int:
    """A loopback port that nobody had a moment ago."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


class Server:
    """A running contestant: a session of its own, so that all its processes can be found, stopped and let go on."""

    def __init__(self, contestant: Contestant, process: subprocess.Popen[bytes] | None, log: IO[bytes]) -> None:
        self.contestant, self._process, self._log = contestant, process, log

    async def ready(self) -> None:
        """Wait until it answers; raises NotStarted."""
        if self._process is None:
            return
        try:
            async with asyncio.timeout(_START_SECONDS), aiohttp.ClientSession() as session:
                while self._process.poll() is None:
                    with contextlib.suppress(aiohttp.ClientError):
                        address = self.contestant.url + self.contestant.ready
                        async with session.get(address, headers=self.contestant.headers) as answer:
                            if answer.status == 200:
                                return
                    await asyncio.sleep(0.1)  # there is no event for another program's start
        except TimeoutError:
            pass
        raise NotStarted(f"{self.contestant.name} does not answer; it said: {self.said()}")

    def said(self) -> str:
        """The end of what it wrote."""
        self._log.seek(0)
        return self._log.read().decode(errors="replace")[-1500:]

    def pin(self, *cores: int) -> None:
        """Keep it on these cores from now on: all its threads, whose threads and processes will inherit that."""
        for _ in range(2):  # one may have been started while the others were pinned
            for pid in self.processes():
                for thread in Path(f"/proc/{pid}/task").iterdir():
                    with contextlib.suppress(OSError):
                        os.sched_setaffinity(int(thread.name), cores)

    def halt(self) -> None:
        """Let it do nothing until `go`, lest it take time from the one whose turn it is."""
        self._signal(signal.SIGSTOP)

    def go(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, number)

    def rss_mb(self) -> float:
        """Resident memory of all its processes, megabytes; pages that they share count in each."""
        return sum(_resident_mb(pid) for pid in self.processes())

    def processes(self) -> Iterator[int]:
        """The ids of those that live."""
        if self._process is None:
            return
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):  # it ended meanwhile
                if entry.name.isdigit() and os.getsid(int(entry.name)) == self._process.pid:
                    yield int(entry.name)

    def end(self) -> None:
        """Ask it to end; `close` waits for that."""
        if self._process is not None:
            self.go()
            self._process.terminate()

    def close(self) -> None:
        """End it."""
        self.end()
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_STOP_SECONDS)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._log.close()


def _resident_mb(pid: int) -> float:
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * _PAGE_MB
    return 0.0


def start(contestant: Contestant) -> Server:
    """Start one, on whatever core is free; it is not ready yet."""
    log = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the server
    process = None
    if contestant.command:
        environment = {**os.environ, **contestant.environment}
        process = subprocess.Popen(  # noqa: S603  # commands of ours
            contestant.command,
            env=environment,
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    return Server(contestant, process, log)
