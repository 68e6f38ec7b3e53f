"""Several model servers that serve the same: started together, restarted each on its own, stopped together.

with Replicas(plans, folder=Path("logs"), progress=print) as replicas:
    ...  # at least one is ready
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from serving.plan import Plan
from serving.server import ModelServer, Patience, ServerError

_PATIENCE = Patience()


class Replicas:
    """Model servers under `plans`; their logs are in `folder`, `model-server.log` for a single one, else numbered from 1.

    One that fails for good is told by `progress`; the others go on.
    """

    def __init__(
        self,
        plans: Sequence[Plan],
        *,
        folder: Path,
        progress: Callable[[str], None] = lambda line: None,
        patience: Patience = _PATIENCE,
    ) -> None:
        self._changed = threading.Condition()
        self._progress = progress
        patience = replace(patience, report_every=patience.report_every * len(plans))
        several = len(plans) > 1
        self.servers = tuple(
            ModelServer(
                plan,
                log=folder / (f"model-server-{number}.log" if several else "model-server.log"),
                progress=partial(self._say, f"replica {number}: " if several else ""),
                patience=patience,
                changed=self._changed,
            )
            for number, plan in enumerate(plans, 1)
        )
        self._starters = [threading.Thread(target=self._start, args=[each], daemon=True) for each in self.servers]

    @property
    def ready(self) -> int:
        """How many answer now."""
        return sum(server.state == "ready" for server in self.servers)

    @property
    def failed(self) -> bool:
        """Whether all of them have failed for good."""
        return all(server.state == "failed" for server in self.servers)

    def __enter__(self) -> Self:
        """Return as soon as one is ready. Raises ServerError when none can be started."""
        try:
            for starter in self._starters:
                starter.start()
            self.wait_for(lambda: self.ready > 0 or self.failed)
            if self.failed:
                raise ServerError(self._why())
        except BaseException:
            self.stop()
            raise
        if waiting := sum(server.state == "starting" for server in self.servers):
            self._progress(f"{self.ready} of {len(self.servers)} replicas ready, {waiting} still starting")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End every process of all of them, at the same time. Safe to call twice."""
        stops = [threading.Thread(target=server.stop, daemon=True) for server in self.servers]
        for thread in stops:
            thread.start()
        for thread in (*stops, *self._starters):
            if thread.ident is not None:  # one that was never started cannot be waited for
                thread.join()

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Block until the condition holds, looking again whenever the state of a replica changes."""
        with self._changed:
            while not self._changed.wait_for(condition, 1.0):
                pass  # in steps, so that a signal handler of the main thread gets its turn

    def _start(self, server: ModelServer) -> None:
        try:
            server.start()
        except (ServerError, OSError) as error:
            if len(self.servers) > 1 and server.state == "failed":
                self._say(f"replica {self.servers.index(server) + 1}: ", f"failed for good: {error}")

    def _why(self) -> str:
        if len(self.servers) == 1:
            return self.servers[0].failure
        return f"none of {len(self.servers)} replicas could be started; the last one: {self.servers[-1].failure}"

    def _say(self, who: str, line: str) -> None:
        self._progress(f"{who}{line}")
