"""Users come evenly, then stay."""

from __future__ import annotations

from locust import LoadTestShape

from loadtests.ramp import users_at

_USERS = 10


class RampHold(LoadTestShape):
    """Up to `-u` users within `--ramp` seconds, all of them for `--hold` seconds, then the end."""

    use_common_options = True  # -u is read here; without this locust would say that it is ignored

    def tick(self) -> tuple[int, float] | None:
        """What locust asks every second: how many users, and how fast to get there."""
        options = self.runner.environment.parsed_options if self.runner else None
        if options is None:
            return None
        wanted = options.num_users or _USERS
        elapsed: float = self.get_run_time()  # type: ignore[no-untyped-call]  # locust has no type for it
        users = users_at(elapsed, wanted, options.ramp, options.hold)
        return None if users is None else (users, wanted)
