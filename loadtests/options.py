"""Our own options beside locust's. Names and passwords are no options: every process on the machine could read them.

Their values stay plain texts and numbers: locust sends them from the master to the workers.
"""

from __future__ import annotations

import argparse
from argparse import ArgumentTypeError
from pathlib import Path

from locust.argument_parser import LocustArgumentParser

from loadtests import levels_file
from loadtests.callers import KINDS
from loadtests.levels import Level
from loadtests.profile import SHAPES, Profile

_ABOUT = """Users log in at /auth/token with the name in $PASSERELLE_LOAD_USER and the password in $PASSERELLE_LOAD_PASSWORD,
carry the token or API key in $PASSERELLE_LOAD_TOKEN, or are those of a file (--tenants). There are up to -u of them, as
--shape says; the exit code is 1 when a service level is broken or nothing was measured, else 0. Example: python -m loadtests
--headless --host http://127.0.0.1:8000 -u 200 --arrival-rate 20 --max-ttft-p95 1500 --html report.html"""
_USERS = 10
_OPEN_USERS = 100  # with an arrival rate users are no load, only the most that may be under way
_HOLD, _SOAK = 120.0, 3600.0
_SHARE = 0.01


def add(parser: LocustArgumentParser) -> None:
    """Register the options; each can come from the environment instead."""
    group = parser.add_argument_group("Passerelle", _ABOUT)

    def option(name: str, text: str, **more: object) -> None:
        env_var = "PASSERELLE_LOAD_" + name.removeprefix("--").replace("-", "_").upper()
        group.add_argument(name, help=text, env_var=env_var, **more)

    def number(name: str, default: float | None, metavar: str, text: str) -> None:
        told = text if default is None else f"{text} (default: %(default)s)"
        option(name, told, type=_positive, default=default, metavar=metavar)

    option("--model", "a published model (default: the first that /v1/models lists)", default="")
    option("--tenants", "TOML or CSV file of callers and their weights", default="", metavar="FILE")
    number("--max-tokens", 128, "N", "longest answer asked for")
    number("--streamed", 3, "WEIGHT", "share of streamed questions, beside the next three")
    number("--plain", 1, "WEIGHT", "share of questions that are not streamed")
    number("--over-limit", 0, "WEIGHT", "share of questions by a caller whose limit is small: some have to meet a 429")
    number("--refused", 0, "WEIGHT", "share of prompts that the guards have to refuse")
    option(
        "--refused-prompts", "TOML file of such prompts (default: loadtests/refused.toml)", default="", metavar="FILE"
    )
    number("--pause", 1, "SECONDS", "what a user waits between an answer and the next question")
    number(
        "--arrival-rate", None, "N", "questions/s that are due, answered or not; -u is the most under way, no --pause"
    )
    option("--shape", "course of the load (default: %(default)s)", choices=SHAPES, default=SHAPES[0])
    number("--ramp", 30, "SECONDS", "time in which the load grows, evenly")
    number("--hold", None, "SECONDS", f"time for which it stays (default: {_HOLD:g}, with --shape soak {_SOAK:g})")
    number("--spike", 30, "SECONDS", "with --shape spike: time of all the load, between two of --hold")
    number("--spike-base", 0.1, "SHARE", "with --shape spike: load before and after, 0 to 1")
    option("--levels", "TOML file of service levels", default="", metavar="FILE")
    number(
        "--max-error-share", None, "SHARE", f"service level: failed logins and exchanges, 0 to 1 (default: {_SHARE})"
    )
    number("--max-limited-share", None, "SHARE", f"service level: 429, over-limit questions apart (default: {_SHARE})")
    number("--max-ttft-p95", None, "MS", "service level: request to first content, of streamed answers")
    number("--max-inter-token-p95", None, "MS", "service level: gap between two pieces of content")
    number("--max-total-p95", None, "MS", "service level: request to the end, streamed and plain each")


def check(asked: argparse.Namespace) -> None:
    """Raise SystemExit with one sentence when the options cannot be meant together."""
    if asked.spike_base > 1:
        raise SystemExit(f"loadtests: --spike-base is {asked.spike_base:g}, allowed is a share from 0 to 1")
    if arrival_rate(asked) == 0:
        raise SystemExit("loadtests: --arrival-rate is 0, allowed is a number of questions/s above 0")
    if not asked.tenants and not any(kinds(asked).values()):
        raise SystemExit(
            "loadtests: --streamed, --plain, --over-limit and --refused are all 0, so no question would be asked"
        )


def kinds(asked: argparse.Namespace) -> dict[str, float]:
    """The weights of the kinds of questions."""
    return {kind: float(getattr(asked, kind)) for kind in KINDS}


def profile(asked: argparse.Namespace) -> Profile:
    """The course of the load."""
    hold = _given(asked.hold)
    if hold is None:
        hold = _SOAK if asked.shape == "soak" else _HOLD
    return Profile(asked.shape, asked.ramp, hold, asked.spike_base, asked.spike)


def arrival_rate(asked: argparse.Namespace) -> float | None:
    """Questions/s that are due; None without one."""
    return _given(asked.arrival_rate)


def most_users(asked: argparse.Namespace) -> int:
    """`-u`, or what stands for it."""
    return int(asked.num_users or (_OPEN_USERS if arrival_rate(asked) else _USERS))


def levels(asked: argparse.Namespace) -> list[Level]:
    """The service levels asked for: the file's, and those of the options; an option's share comes before the file's."""
    found = levels_file.levels(Path(asked.levels)) if asked.levels else []
    for measure, given in (("error_share", asked.max_error_share), ("limited_share", asked.max_limited_share)):
        share = _given(given)
        in_file = any(level.kind is None and level.measure == measure for level in found)
        if share is not None or not in_file:
            found = [level for level in found if level.kind is not None or level.measure != measure]
            option = f"--max-{measure.replace('_', '-')}"
            found.append(Level(option, None, measure, _SHARE if share is None else share))
    for event, kind, given in (
        ("ttft", "streamed", asked.max_ttft_p95),
        ("inter_token", "streamed", asked.max_inter_token_p95),
        ("total", "streamed", asked.max_total_p95),
        ("total", "plain", asked.max_total_p95),
    ):
        if (most := _given(given)) is not None:
            option = f"--max-{event.replace('_', '-')}-p95"
            found.append(Level(option, kind, f"{event}_p95_ms", most, optional=event == "total"))
    return found


def _given(value: float | str | None) -> float | None:
    """A number that may be left out; locust's web page sends texts for those, an empty one for what was left out."""
    return None if value in (None, "") else _positive(str(value))


def _positive(text: str) -> float:
    number = float(text)
    if not 0 <= number < float("inf"):
        raise ArgumentTypeError(f"{text}: must be 0 or more")
    return number
