"""uvicorn's supervisor of several workers, but SIGHUP is passed on to them instead of replacing each by a new one."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import Any, Final

import structlog
from uvicorn.supervisors.multiprocess import Multiprocess

_PR_SET_PDEATHSIG: Final = 1  # prctl(2)


def application() -> Any:
    """The factory that each worker calls: it is told to stop when the supervisor dies, however it dies.

    Nobody could stop or replace it then, and a new gateway would find its port taken.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    from gateway.app import from_environment

    try:
        return from_environment()
    except Exception as error:  # noqa: BLE001  # multiprocessing would print a traceback between the lines of the log
        structlog.get_logger().critical("worker_crashed", reason=str(error), exc_info=True)
        sys.exit(1)


class Workers(Multiprocess):
    """SIGHUP has to be blocked in this process. The workers inherit that: one that is still starting gets it when it is ready."""

    def handle_signals(self) -> None:
        """Called twice a second."""
        if signal.SIGHUP in signal.sigpending():
            signal.sigwait({signal.SIGHUP})
            for process in self.processes:
                if process.pid is not None and process.exitcode is None:
                    os.kill(process.pid, signal.SIGHUP)
        super().handle_signals()
