"""Our own options beside locust's. Names and passwords are no options: every process on the machine could read them."""

from __future__ import annotations

import argparse
from argparse import ArgumentTypeError

from locust.argument_parser import LocustArgumentParser

from loadtests.levels import Levels

_ABOUT = """Users log in at /auth/token with the name in $PASSERELLE_LOAD_USER and the password in $PASSERELLE_LOAD_PASSWORD,
or carry the token or API key in $PASSERELLE_LOAD_TOKEN. The run takes --ramp plus --hold seconds with up to -u users; the
exit code is 1 when a service level is broken or nothing was measured, else 0."""


def add(parser: LocustArgumentParser) -> None:
    """Register the options; each can come from the environment instead."""
    group = parser.add_argument_group("Passerelle", _ABOUT)

    def number(name: str, default: float | None, metavar: str, text: str) -> None:
        env_var = "PASSERELLE_LOAD_" + name.removeprefix("--").replace("-", "_").upper()
        told = text if default is None else f"{text} (default: %(default)s)"
        group.add_argument(name, type=_positive, default=default, metavar=metavar, help=told, env_var=env_var)

    group.add_argument(
        "--model",
        default="",
        help="a published model (default: the first that /v1/models lists)",
        env_var="PASSERELLE_LOAD_MODEL",
    )
    number("--max-tokens", 128, "N", "longest answer asked for")
    number("--streamed", 3, "WEIGHT", "share of streamed questions, beside --plain")
    number("--plain", 1, "WEIGHT", "share of questions that are not streamed")
    number("--pause", 1, "SECONDS", "what a user waits between an answer and the next question")
    number("--ramp", 30, "SECONDS", "time in which the users come, evenly")
    number("--hold", 120, "SECONDS", "time for which all of them stay")
    number("--max-error-share", 0.01, "SHARE", "service level: failed logins and exchanges, 0 to 1")
    number("--max-ttft-p95", None, "MS", "service level: request to first content, of streamed answers")
    number("--max-inter-token-p95", None, "MS", "service level: gap between two pieces of content")
    number("--max-total-p95", None, "MS", "service level: request to the end, streamed and plain each")


def levels(options: argparse.Namespace) -> Levels:
    """The service levels asked for."""
    return Levels(
        error_share=options.max_error_share,
        ttft_p95=options.max_ttft_p95,
        inter_token_p95=options.max_inter_token_p95,
        total_p95=options.max_total_p95,
    )


def _positive(text: str) -> float:
    number = float(text)
    if not 0 <= number < float("inf"):
        raise ArgumentTypeError(f"{text}: must be 0 or more")
    return number
