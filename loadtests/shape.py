"""How many users there are, as `--shape` says."""

from __future__ import annotations

from locust import LoadTestShape
from locust.runners import WORKER_REPORT_INTERVAL, MasterRunner

from loadtests import options

_LAST_REPORT = WORKER_REPORT_INTERVAL + 1  # seconds in which every worker has told what it measured


class LoadShape(LoadTestShape):
    """Up to `-u` users by the profile; with `--arrival-rate` all of them at once, since the rate then follows the profile."""

    use_common_options = True  # -u is read here; without this locust would say that it is ignored
    _emptied: float | None = None  # seconds into the run

    def tick(self) -> tuple[int, float] | None:
        """What locust asks every second: how many users, and how fast to get there."""
        asked = self.runner.environment.parsed_options if self.runner else None
        if asked is None:
            return None
        elapsed: float = self.get_run_time()  # type: ignore[no-untyped-call]  # locust has no type for it
        most = options.most_users(asked)
        users = options.profile(asked).users_at(elapsed, most)
        if users is None:
            return (0, most) if self._workers_have_more_to_tell(elapsed) else None
        self._emptied = None
        return (most, most) if options.arrival_rate(asked) else (users, most)

    def _workers_have_more_to_tell(self, elapsed: float) -> bool:
        """A master that ends a run waits half a second for what its workers measured last, whatever --stop-timeout says."""
        if not isinstance(self.runner, MasterRunner) or not self.runner.worker_count:
            return False
        if self._emptied is None and self.runner.user_count == 0:
            self._emptied = elapsed
        return self._emptied is None or elapsed < self._emptied + _LAST_REPORT
