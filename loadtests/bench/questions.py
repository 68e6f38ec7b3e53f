"""The questions of the load tests, for benchmarks: those of `loadtests.user` come with Locust."""

from __future__ import annotations

from pathlib import Path
from typing import Final

QUESTIONS: Final = tuple(
    line
    for line in (Path(__file__).parents[1] / "questions.txt").read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
)
