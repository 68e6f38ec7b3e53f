"""How many users there are, as `--shape` says."""

from __future__ import annotations

from locust import LoadTestShape

from loadtests import options


class LoadShape(LoadTestShape):
    """Up to `-u` users by the profile; with `--arrival-rate` all of them at once, since the rate then follows the profile."""

    use_common_options = True  # -u is read here; without this locust would say that it is ignored

    def tick(self) -> tuple[int, float] | None:
        """What locust asks every second: how many users, and how fast to get there."""
        asked = self.runner.environment.parsed_options if self.runner else None
        if asked is None:
            return None
        elapsed: float = self.get_run_time()  # type: ignore[no-untyped-call]  # locust has no type for it
        most = options.most_users(asked)
        users = options.profile(asked).users_at(elapsed, most)
        if users is None:
            return None
        return (most, most) if asked.arrival_rate else (users, most)
