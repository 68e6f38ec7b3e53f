"""`python -m tests.conformance`: plays a file of cases and says how many passed."""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tests.conformance.cases import BadCases, Case, groups, read
from tests.conformance.description import PER_MINUTE, description
from tests.conformance.programs import CannotStart
from tests.conformance.stage import Stage, fakes, stage

_EXAMPLE = """example:
  python -m tests.conformance --cases cases.jsonl --runner run_cases.py --fake fake_upstream.py --only utf8-cut,html-504
"""
_RESULT = re.compile(r"(pass|FAIL|skip)  ")
_SUMMARY = re.compile(r"\d+ passed, \d+ failed")


def main(argv: Sequence[str] | None = None) -> int:
    """Play the cases; 0 when all passed, 1 when any failed or was skipped, 2 for a wrong command line."""
    top = _parser()
    args = top.parse_args(argv)
    for option in ("runner", "fake"):
        if not getattr(args, option).is_file():
            top.error(f"--{option} holds {str(getattr(args, option))!r}, which is no file")
    try:
        cases = read(args.cases, filter(None, args.only.split(",")))
    except BadCases as error:
        top.error(str(error))
    folder, counts = Path(tempfile.mkdtemp(prefix="passerelle-conformance-")), Counter[str]()
    try:
        for number, group in enumerate(groups(cases)):
            counts += _play(group, folder / str(number), args.runner.absolute(), args.fake.absolute())
    except CannotStart as error:
        _say(f"conformance: {error}")
        return 1
    failed = len(cases) - counts["pass"] - counts["skip"]  # a case whose runner broke down has not passed
    _say(f"{counts['pass']} passed, {failed} failed, {counts['skip']} skipped")
    if failed or counts["skip"]:
        _say(f"conformance: the logs are in {folder}")
        return 1
    shutil.rmtree(folder)
    return 0


def _play(group: list[Case], folder: Path, runner: Path, fake: Path) -> Counter[str]:
    """Play cases against one installation: how many of each result there were.

    A case that breaks the runner has no result; those behind it get another installation.
    """
    folder.mkdir()
    limit = PER_MINUTE if group[0].login_limited else 0
    with fakes(folder, fake) as upstreams, stage(folder, upstreams, login_per_minute=limit) as running:
        (folder / "cases.jsonl").write_text("\n".join(case.line for case in group), encoding="utf-8")
        (folder / "gateway.json").write_text(json.dumps(description(running), ensure_ascii=False), encoding="utf-8")
        counts = _run(running, runner)
    rest = group[counts.total() + 1 :]
    return counts + _play(rest, folder / "rest", runner, fake) if rest else counts


def _run(running: Stage, runner: Path) -> Counter[str]:
    command = [sys.executable, "-u", str(runner), "-v", "--config", str(running.folder / "gateway.json")]
    counts = Counter[str]()
    with subprocess.Popen(
        [*command, str(running.folder / "cases.jsonl")],
        env=running.environment,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # with its hooks a group of its own, which can be ended as a whole
    ) as process:
        try:
            for line in process.stdout or ():
                if result := _RESULT.match(line):
                    counts[result.group(1)] += 1
                if not _SUMMARY.match(line):
                    _say(line.rstrip("\n"))
            process.wait()
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    if process.returncode not in (0, 1):
        _say(f"conformance: the runner broke down with exit code {process.returncode}")
    return counts


def _parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="python -m tests.conformance",
        description="Starts the gateway with short limits, Valkey and two fake model servers, and plays a file of cases "
        "against them. A case that uses up a limit or stops a server gets an installation of its own.",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--cases", type=Path, required=True, metavar="FILE", help="the cases, one JSON object a line")
    top.add_argument("--runner", type=Path, required=True, metavar="FILE", help="the program that plays them")
    top.add_argument("--fake", type=Path, required=True, metavar="FILE", help="the program that plays a model server")
    top.add_argument("--only", default="", metavar="ID,ID", help="these cases alone")
    return top


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201  # a command prints


def _leave(_number: int, _frame: object) -> None:
    sys.exit(143)  # SystemExit runs every clean-up; the signal's default action would run none


if __name__ == "__main__":
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _leave)
    sys.exit(main())
