"""The figures as Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_COLUMNS = {
    "plain_rps": ("plain, requests/s", "{:,.0f}"),
    "stream_tokens_per_s": ("streamed, tokens/s", "{:,.0f}"),
    "added_p50_ms": ("added p50, ms", "{:.2f}"),
    "added_p99_ms": ("added p99, ms", "{:.2f}"),
    "added_ttft_ms": ("added TTFT, ms", "{:.2f}"),
    "added_inter_token_ms": ("added inter-token time, ms", "{:.2f}"),
    "rss_mb": ("RSS, MB", "{:,.0f}"),
}


def table(report: Mapping[str, Any]) -> str:
    """The figures that stand for all, then those of every cell, if there are more."""
    runs: dict[str, dict[str, float]] = report["runs"]
    columns = [name for name in _COLUMNS if any(name in run for run in runs.values())]
    lines = [_row("", *(_COLUMNS[name][0] for name in columns)), _rule(len(columns))]
    for contestant, run in runs.items():
        lines.append(
            _row(contestant, *(_COLUMNS[name][1].format(run[name]) if name in run else "" for name in columns))
        )
    cells: dict[str, dict[str, dict[str, float]]] = report["cells"]
    every = list(dict.fromkeys(cell for found in cells.values() for cell in found))
    if len(every) > 2:
        lines += ["", _row("median (least – most), a second", *cells), _rule(len(cells))]
        lines += [_row(_unit(cell), *(_spread(found[cell]) for found in cells.values())) for cell in every]
    return "\n".join(lines) + "\n"


def _row(*entries: str) -> str:
    return f"| {' | '.join(entries)} |"


def _rule(columns: int) -> str:
    return "|---" + "|---:" * columns + "|"


def _unit(cell: str) -> str:
    return f"{cell}: {'tokens' if cell.startswith('stream') else 'requests'}"


def _spread(figures: Mapping[str, float]) -> str:
    middle, least, most = figures.values()
    return f"{middle:,.0f} ({least:,.0f} – {most:,.0f})"
