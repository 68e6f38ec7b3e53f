"""`passerelle guards bench`: how good the guards are on labelled files, for the published table and for one's own data."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gateway.commands.typing import Subparsers
    from gateway.guardrails.bench import Figures
    from gateway.guardrails.rates import Rate

_EXAMPLE = """example:
  passerelle guards bench retours.jsonl attaques.jsonl
  passerelle guards bench --json --config passerelle.toml retours.jsonl

a line of a file is one JSON object:
  {"text": "…", "lang": "fr"}                        is it French?
  {"text": "…", "switch": 212}                       an answer that leaves French at that character
  {"text": "…", "spans": [{"start": 3, "end": 17}]}  personal data; [] where there is none
  {"text": "…", "label": 1}                          abuse; 0 where it is harmless
  {"text": "…", "label": 1, "lang": "fr"}            an injection, in French (fr) or English (en)
"""
_PROGRESS = 200  # rows


def add_command(commands: Subparsers) -> None:
    """Register the command."""
    from gateway.commands.actions import command

    add = command(commands, "guards", "measure the guards", _EXAMPLE)
    bench = add("bench", run, "recall, precision, false alarms and time of each guard on labelled files")
    bench.add_argument("files", type=Path, nargs="+", metavar="FILE", help="JSON Lines; see below")
    bench.add_argument("--json", action="store_true", help="print JSON in place of a table")


class BadFile(Exception):
    """A file cannot be used; the message is the one sentence that says which, where and why."""


def run(args: argparse.Namespace) -> int:
    """Measure and print; 1 where a file cannot be read or holds nothing to measure."""
    from gateway.guardrails.bench import measure
    from gateway.guardrails.guards import Guards
    from gateway.settings import load

    rules = Guards(load(args.config).guards).of()
    try:
        rows = [row for path in args.files for row in _rows(path)]
    except BadFile as error:
        print(f"passerelle: {error}", file=sys.stderr)
        return 1
    figures = measure(rows, rules, lambda done: _tell(done, len(rows)))
    if not figures:
        print("passerelle: no line has the shape of any guard's; --help shows them.", file=sys.stderr)
        return 1
    measured = sum(each.n for each in figures.values())
    if measured < len(rows):
        print(
            f"passerelle: {len(rows) - measured} lines have the shape of no guard's and were left out.", file=sys.stderr
        )
    print(_json(figures) if args.json else _table(figures))
    return 0


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    import orjson

    from gateway.guardrails.bench import fault_of, guard_of

    try:
        lines = path.read_bytes().removeprefix(b"\xef\xbb\xbf").splitlines()
    except OSError as error:
        raise BadFile(f"{path} cannot be read: {error.strerror}.") from None
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise BadFile(f"{path}, line {number}, is not JSON: {error}.") from None
        if not isinstance(row, dict):
            raise BadFile(f"{path}, line {number}, is not a JSON object.")
        if guard_of(row) and (fault := fault_of(row)):
            raise BadFile(f"{path}, line {number}: {fault}.")
        yield row


def _tell(done: int, of: int) -> None:
    if sys.stderr.isatty() and (done % _PROGRESS == 0 or done == of):
        print(f"\r{done} of {of} lines", end="\n" if done == of else "", file=sys.stderr, flush=True)


def _json(figures: dict[str, Figures]) -> str:
    import orjson

    shown = {guard: counted.shown() for guard, counted in figures.items()}
    return orjson.dumps(shown, option=orjson.OPT_INDENT_2).decode()


def _table(figures: dict[str, Figures]) -> str:
    """Markdown: shares in percent with their 95 % intervals (Wilson), times in microseconds."""
    lines = [
        "| guard | rows | recall | precision | false alarms | p50 µs | p99 µs |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    notes = []
    for guard, counted in figures.items():
        rates = " | ".join(map(_percent, (counted.recall, counted.precision, counted.false_alarm_rate)))
        times = f"{counted.microseconds(0.5):.0f} | {counted.microseconds(0.99):.0f}"
        lines.append(f"| `{guard}` | {counted.n} | {rates} | {times} |")
        shown = counted.shown()
        if counted.abstained:
            notes.append(f"{guard}: {counted.abstained} rows are too short to tell and in no rate")
        if "median_after_switch" in shown:
            notes.append(
                f"{guard}: stopped {shown['median_after_switch']:g} characters after the switch, in the median"
            )
        if shown["false_alarms"]:
            alarms = ", ".join(f"{name or '-'} {count}" for name, count in shown["false_alarms"].items())
            notes.append(f"{guard}: false alarms by category: {alarms}")
    return "\n".join([*lines, "", *notes])


def _percent(rate: Rate) -> str:
    if not rate.judged:
        return "–"
    low, high = rate.interval
    return f"{100 * rate.share:.1f} % ({100 * low:.0f}–{100 * high:.0f}), {rate.passed}/{rate.judged}"
