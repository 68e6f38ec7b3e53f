"""One real run of locust in a process of its own, and what it reports."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.loadtests.script import PASSWORD, USER

ROOT = Path(__file__).resolve().parents[2]
_OWN = {"PASSERELLE_LOAD_USER": USER, "PASSERELLE_LOAD_PASSWORD": PASSWORD}


@dataclass(frozen=True)
class Report:
    """The exit code, what locust logged, and its statistics by "TYPE NAME"."""

    code: int
    log: str
    entries: dict[str, dict[str, Any]]

    def median(self, name: str) -> float:
        """In milliseconds, from locust's histogram."""
        times = {float(time): int(count) for time, count in self.entries[name]["response_times"].items()}
        every = sorted(time for time, count in times.items() for _ in range(count))
        return every[len(every) // 2]


def locust(host: str, *options: str, **environment: str) -> Report:
    """Four users without a pause for two seconds, unless `options` say otherwise."""
    command = [sys.executable, "-m", "loadtests", "--headless", "--json", "--host", host]
    command += ["-u", "4", "--ramp", "0", "--hold", "2", "--pause", "0", "--stop-timeout", "5", *options]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LOCUST", "PASSERELLE"))}
    done = subprocess.run(
        command, cwd=ROOT, env=kept | _OWN | environment, capture_output=True, text=True, timeout=60, check=False
    )
    entries = {f"{entry['method']} {entry['name']}": entry for entry in _statistics(done.stdout)}
    return Report(done.returncode, done.stderr, entries)


def _statistics(printed: str) -> list[dict[str, Any]]:
    """The rows of every list: workers print theirs too, empty since the master has their rows."""
    rows: list[dict[str, Any]] = []
    while (printed := printed.strip()).startswith("["):
        found, end = json.JSONDecoder().raw_decode(printed)
        rows, printed = rows + found, printed[end:]
    return rows
