"""uvicorn's supervisor of several workers, but SIGHUP is passed on to them instead of replacing each by a new one."""

from __future__ import annotations

import os
import signal

from uvicorn.supervisors.multiprocess import Multiprocess


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
