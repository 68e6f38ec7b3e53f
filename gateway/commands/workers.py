"""The supervisor: starts workers on shared sockets, replaces what dies or hangs, and at SIGUSR2 all of them, one after another.

`python -m gateway.commands.workers FACTS SOCKET …`; `passerelle gateway` becomes this program once its configuration is read and
its sockets are bound. It imports the standard library alone, for it costs its memory on every machine.

SIGHUP is passed on to the workers. SIGTERM and SIGINT stop them; a second one hastens.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final

from gateway.commands.supervised import HELD, Worker
from gateway.metrics_folder import remove_folder

KILL_SECONDS: Final = 8.0  # after the time of the streams: a worker that has not ended by itself does not end any more
_TICK_SECONDS: Final = 0.5
_LATE_SECONDS: Final = 3.0  # this process itself was stopped, or the machine was: nobody could be heard
_STEADY_SECONDS: Final = 10.0  # a worker that has served for so long is replaced at once
_LONGEST_SECONDS: Final = 30.0  # between two tries to start one
_TWICE_SECONDS: Final = 0.5  # one Ctrl-C often comes twice, from the terminal and from the program above
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR2, signal.SIGCHLD)


class Supervisor:
    """`facts` are what a worker tells of its settings; those of the newest worker hold."""

    def __init__(self, sockets: Sequence[int], facts: dict[str, Any]) -> None:
        self._sockets, self._facts, self._bound = list(sockets), facts, (facts["host"], facts["port"])
        self._workers: list[Worker] = []  # those that serve, or will
        self._leaving: list[Worker] = []  # those whose place another has taken, and those that are stopped
        self._fresh: Worker | None = None  # the one that is to take a place
        self._old: deque[Worker] = deque()  # those whose place is to be taken
        self._served = self._stopping = False
        self._stopped_at = 0.0
        self._failures, self._not_before = 0, 0.0
        self._signals: deque[int] = deque()
        self._code = 0
        self._heard = time.monotonic()

    def run(self) -> int:
        """Supervise until told to stop; the exit code."""
        wake, waker = socket.socketpair()
        for end in (wake, waker):
            end.setblocking(False)
        signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
        for number in _SIGNALS:
            signal.signal(number, lambda number, _: self._signals.append(number))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD)
        while not (self._stopping and not self._everybody()):
            self._tick()
            pipes: list[int] = [wake.fileno(), *(worker.fileno() for worker in self._everybody())]
            select.select(pipes, [], [], 0 if self._stopping and not self._everybody() else _TICK_SECONDS)
            with suppress(BlockingIOError):
                wake.recv(4096)
        if self._served:
            say("stopped")
        return self._code

    def _tick(self) -> None:
        now = time.monotonic()
        late, self._heard = now - self._heard > _LATE_SECONDS, now
        while self._signals:
            self._signal(self._signals.popleft(), now)
        for worker in self._everybody():
            worker.listen()
            if late:
                worker.heard = now
            self._reap(worker, now)
        if not self._stopping:
            self._renew()
            self._fill(now)

    def _everybody(self) -> list[Worker]:
        return [*self._workers, *self._leaving, *([self._fresh] if self._fresh else [])]

    def _signal(self, number: int, now: float) -> None:
        if number == signal.SIGHUP:
            for worker in self._everybody():
                worker.tell(signal.SIGHUP)
        elif number == signal.SIGUSR2 and not self._stopping:
            self._begin_renewal()
        elif number in (signal.SIGTERM, signal.SIGINT):
            self._stop(signal.Signals(number), now)

    def _begin_renewal(self) -> None:
        say("renewal_begun", workers=len(self._workers))
        if self._fresh is not None:  # what it has read may have changed since
            self._retire(self._fresh)
            self._fresh = None
        self._old, self._failures, self._not_before = deque(self._workers), 0, 0.0

    def _stop(self, number: signal.Signals, now: float) -> None:
        if self._stopping and now - self._stopped_at < _TWICE_SECONDS:
            return
        hastened = self._stopping
        say("stopping", signal=number.name, hastened=hastened)
        if not hastened:
            self._stopped_at, self._stopping = now, True
            self._leaving, self._workers, self._fresh = self._everybody(), [], None
            for descriptor in self._sockets:  # or whoever comes now would wait for nobody
                os.close(descriptor)
        for worker in self._leaving:
            worker.tell(signal.SIGTERM)
            worker.kill_at = min(worker.kill_at, now + KILL_SECONDS + (0 if hastened else self._grace(worker)))

    def _reap(self, worker: Worker, now: float) -> None:
        """Put away a worker that has ended; kill one that should have, or that hangs."""
        how = worker.ended()
        if how is None:
            self._kill(worker, now)
            return
        worker.close()
        if worker is self._fresh:
            self._fresh, self._old = None, deque()
            say("renewal_refused", "error", reason=_sentence(how), workers=len(self._workers))
        elif worker in self._leaving:
            self._leaving.remove(worker)
        else:
            self._workers.remove(worker)
            self._lost(worker, how, now)

    def _kill(self, worker: Worker, now: float) -> None:
        hangs = worker.silent(now, self._facts["hang_seconds"])
        if hangs or now > worker.kill_at:
            say("worker_killed", "error", pid=worker.pid, reason="gives no sign of life" if hangs else "did not end")
            worker.tell(signal.SIGKILL)
            worker.heard, worker.kill_at = now, now + KILL_SECONDS

    def _lost(self, worker: Worker, how: str, now: float) -> None:
        if not self._served and self._fresh is not None:  # it may have read another configuration: all is up to it
            self._workers, self._fresh, self._old = [self._fresh], None, deque()
            return
        if not self._served:
            # A configuration that cannot work: the next one would fail in the same way.
            self._give_up(_sentence(how))
            return
        steady = worker.ready_since is not None and now - worker.ready_since > _STEADY_SECONDS
        pause = self._pause(now, steady=steady)
        say("worker_lost", "error", pid=worker.pid, reason=_sentence(how), next_start_seconds=pause)

    def _give_up(self, reason: str) -> None:
        _write(f"passerelle: {reason}")
        self._code, self._stopping = 1, True

    def _pause(self, now: float, *, steady: bool = False) -> float:
        """The seconds until a worker is started again."""
        self._failures = 0 if steady else self._failures + 1
        pause = 0.0 if steady else min(0.5 * 2**self._failures, _LONGEST_SECONDS)
        self._not_before = now + pause
        return pause

    def _renew(self) -> None:
        """One step of replacing the old workers: at most one more than usual is there at any time."""
        if self._fresh is not None:
            if self._fresh.ready:
                self._take_place(self._fresh)
            return
        while self._old and self._old[0] not in self._workers:  # it died meanwhile, and has been replaced
            self._old.popleft()
        if self._old and not self._leaving:
            try:
                self._fresh = Worker(self._sockets)
            except OSError as error:
                self._old = deque()
                say("renewal_refused", "error", reason=_unstartable(error), workers=len(self._workers))

    def _take_place(self, fresh: Worker) -> None:
        old = self._old.popleft() if self._old else None
        self._fresh = None
        self._workers.append(fresh)
        self._learn(fresh)
        if old in self._workers and old is not None:
            self._workers.remove(old)
            self._retire(old)
        say("worker_replaced", pid=fresh.pid, old=old.pid if old else None)
        if not self._old:
            say("renewal_done", workers=len(self._workers))

    def _retire(self, worker: Worker) -> None:
        self._leaving.append(worker)
        worker.tell(signal.SIGUSR1)
        worker.kill_at = time.monotonic() + self._grace(worker) + KILL_SECONDS

    def _grace(self, worker: Worker) -> float:
        """The time of its streams, by the settings that it was started with."""
        return float((worker.facts or self._facts)["shutdown_seconds"])

    def _fill(self, now: float) -> None:
        """Have as many workers as there should be; the first one alone, as it may find that nothing works."""
        if any(worker.ready for worker in self._workers) and not self._served:
            self._served = True
            self._learn(next(worker for worker in self._workers if worker.ready))
            say("serving", **self._facts)
        wanted = self._facts["workers"] if self._served else 1
        while len(self._workers) < wanted and now >= self._not_before and not self._stopping:
            self._start(now)
        while len(self._workers) > wanted and not self._old and self._fresh is None:
            self._retire(self._workers.pop())

    def _start(self, now: float) -> None:
        try:
            self._workers.append(Worker(self._sockets))
        except OSError as error:
            if not self._served:
                self._give_up(_unstartable(error))
                return
            say("worker_unstarted", "error", reason=_unstartable(error), next_start_seconds=self._pause(now))

    def _learn(self, worker: Worker) -> None:
        self._facts = worker.facts
        if (self._facts["host"], self._facts["port"]) != self._bound:
            say(
                "restart_needed",
                "warning",
                keys=["server.host", "server.port"],
                reason="the address is bound at start alone",
            )


def say(event: str, level: str = "info", **fields: Any) -> None:
    """One line of the log, in the form of the workers'."""
    at = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    line = {**fields, "event": event, "level": level, "timestamp": at, "supervisor": os.getpid()}
    _write(json.dumps(line, ensure_ascii=False))


def _write(line: str) -> None:
    with suppress(OSError):  # nobody reads, or the disk is full: the workers go on all the same
        os.write(sys.stderr.fileno(), f"{line}\n".encode(errors="backslashreplace"))


def _unstartable(error: OSError) -> str:
    return f"no process can be started: {error.strerror or type(error).__name__} ({sys.executable})."


def _sentence(how: str) -> str:
    return how if " " in how.removeprefix("exit code ") else f"the worker ended by {how}; the lines above say more."


def main(arguments: Sequence[str]) -> int:
    """Supervise workers on sockets that are bound already."""
    facts, *descriptors = arguments
    try:
        return Supervisor([int(descriptor) for descriptor in descriptors], json.loads(facts)).run()
    finally:
        remove_folder()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
