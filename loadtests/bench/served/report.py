"""The figures, and the table of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

from loadtests.bench.served.turns import Run

_WHOLE = 0.95  # of the tokens asked for; where nobody tells the tool how many there were it counts, and is off by some per cent


def report(runs: Sequence[Run], machine: Mapping[str, Any], about: Mapping[str, Any]) -> dict[str, Any]:
    """What the JSON holds: a line for each number at once and contestant, the mean of its runs, and every run."""
    keys = dict.fromkeys((run.at_once, run.contestant) for run in sorted(runs, key=lambda run: run.at_once))
    lines = [_line([run for run in runs if (run.at_once, run.contestant) == key]) for key in keys]
    direct = {line["at_once"]: line for line in lines if line["contestant"] == "direct"}
    for line in lines:
        if base := direct.get(line["at_once"]):
            line["of_direct"] = _share(line["output_tokens_per_s"], base["output_tokens_per_s"])
            line["added_ttft"] = round(line["mean_ttft"] - base["mean_ttft"], 3)
    every = [
        {"at_once": run.at_once, "contestant": run.contestant, "seed": run.seed} | run.figures.named() for run in runs
    ]
    return {"machine": dict(machine), **about, "lines": lines, "runs": every}


def _share(rate: float, direct: float) -> float:
    return round(rate / direct, 4) if direct else 0.0


def _line(runs: Sequence[Run]) -> dict[str, Any]:
    """Means of several runs; what was completed and failed is added up."""
    named = [run.figures.named() for run in runs]
    line: dict[str, Any] = {"at_once": runs[0].at_once, "contestant": runs[0].contestant}
    for name in named[0]:
        values = [each[name] for each in named]
        line[name] = int(sum(values)) if name in ("completed", "failed") else round(mean(values), 3)
    if cores := [run.cores for run in runs if run.cores is not None]:
        line["cores"] = round(mean(cores), 3)
    return line


_COLUMNS = (
    *("at once", "contestant", "output tokens/s", "of direct", "mean TTFT, ms", "added", "p99 TTFT, ms"),
    *("mean ITL, ms", "cores busy", "failed"),
)


def table(report: Mapping[str, Any]) -> str:
    """One line for each number at once and contestant, and a word on answers that were shorter than asked for."""
    rows = [_row(*_COLUMNS), "|---:|---|" + "---:|" * (len(_COLUMNS) - 2)]
    rows += [_entries(line) for line in report["lines"]]
    wanted = report["output_len"]
    short = [line for line in report["lines"] if line["completed"] and line["answer_tokens"] < _WHOLE * wanted]
    rows += [
        f"\n{line['contestant']}, {line['at_once']} at once: answers had {line['answer_tokens']:.0f} tokens in the mean and not "
        f"{wanted}; its times are not comparable."
        for line in short
    ]
    return "\n".join(rows) + "\n"


def _entries(line: Mapping[str, Any]) -> str:
    added = f"{line['added_ttft']:+,.1f}" if "added_ttft" in line and line["contestant"] != "direct" else ""
    return _row(
        str(line["at_once"]),
        line["contestant"],
        f"{line['output_tokens_per_s']:,.0f}",
        f"{line['of_direct']:.1%}" if "of_direct" in line else "",
        f"{line['mean_ttft']:,.1f}",
        added,
        f"{line['p99_ttft']:,.1f}",
        f"{line['mean_itl']:,.2f}",
        f"{line['cores']:.2f}" if "cores" in line else "",
        str(line["failed"]),
    )


def _row(*entries: str) -> str:
    return f"| {' | '.join(entries)} |"
