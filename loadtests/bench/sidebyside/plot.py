"""The figures as a picture: bars on a logarithmic scale, with the least and the most of the measurements."""

from __future__ import annotations

import math
from collections.abc import Mapping
from html import escape
from typing import Any

from loadtests.bench.sidebyside.figures import HEADLINE, Cell

_NAMES, _BARS, _ROW, _TOP = 130, 440, 26, 40  # pixels
_WIDTH = _NAMES + _BARS + 110
_STYLE = "text{font:13px sans-serif;fill:#222} .bar{fill:#9db8d2} .ours{fill:#2f6fab} line{stroke:#222}"


def plot(report: Mapping[str, Any]) -> str:
    """An SVG with a panel for plain answers and one for streams."""
    panels: list[str] = []
    height = 0
    for stream, unit in ((False, "plain, requests/s"), (True, "streamed, tokens/s")):
        cell = Cell(stream, *HEADLINE).name
        figures = {name: list(cells[cell].values()) for name, cells in report["cells"].items()}
        panels.append(f'<g transform="translate(0,{height})">{_panel(unit, figures)}</g>')
        height += _TOP + _ROW * len(figures) + 30
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" viewBox="0 0 {_WIDTH} {height}">'
        f'<style>{_STYLE}</style><rect width="100%" height="100%" fill="#fff"/>{"".join(panels)}</svg>\n'
    )


def _panel(title: str, figures: Mapping[str, list[float]]) -> str:
    """Bars of the medians; `figures` are median, least and most."""
    everything = [value for values in figures.values() for value in values if value > 0] or [1.0]
    low, high = math.floor(math.log10(min(everything))), math.ceil(math.log10(max(everything)))
    high = max(high, low + 1)

    def across(value: float) -> float:
        return _NAMES + _BARS * max(0.0, (math.log10(max(value, 1e-9)) - low) / (high - low))

    bottom = _TOP + _ROW * len(figures)
    parts = [f'<text x="{_NAMES}" y="20" font-weight="bold">{escape(title)}</text>']
    for power in range(low, high + 1):
        x = across(10.0**power)
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP - 8}" y2="{bottom}" style="stroke:#ddd"/>')
        parts.append(f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{10**power:,.10g}</text>')
    for place, (name, (middle, least, most)) in enumerate(figures.items()):
        y = _TOP + _ROW * place
        kind = "bar ours" if name.startswith("passerelle") else "bar"
        parts.append(f'<text x="{_NAMES - 8}" y="{y + 14}" text-anchor="end">{escape(name)}</text>')
        parts.append(
            f'<rect class="{kind}" x="{_NAMES}" y="{y}" width="{across(middle) - _NAMES:.1f}" height="{_ROW - 8}"/>'
        )
        parts.append(f'<line x1="{across(least):.1f}" x2="{across(most):.1f}" y1="{y + 9}" y2="{y + 9}"/>')
        parts.append(f'<text x="{across(most) + 6:.1f}" y="{y + 14}">{middle:,.0f}</text>')
    return "".join(parts)
