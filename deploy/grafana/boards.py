"""Makes Grafana's boards of boards.yml: `python deploy/grafana/boards.py` writes dashboards/*.json anew."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import yaml

HERE: Final = Path(__file__).parent
DASHBOARDS: Final = HERE / "dashboards"
SOURCE: Final = {"type": "prometheus", "uid": "prometheus"}  # provisioning/datasources/prometheus.yml
_WIDTH: Final = 24  # of Grafana's grid

Json = dict[str, Any]


def boards() -> list[Json]:
    """The boards as Grafana reads them."""
    return [_board(board) for board in yaml.safe_load((HERE / "boards.yml").read_text(encoding="utf-8"))["boards"]]


def text(board: Json) -> str:
    """A board's file: a line for each panel, so that a change shows as one."""
    panels = ",\n  ".join(json.dumps(panel, ensure_ascii=False) for panel in board["panels"])
    head = json.dumps({name: value for name, value in board.items() if name != "panels"}, ensure_ascii=False)
    return f'{head[:-1]}, "panels": [\n  {panels}\n]}}\n'


def _board(board: Json) -> Json:
    return {
        "uid": board["uid"],
        "title": board["title"],
        "tags": ["passerelle"],
        "schemaVersion": 39,
        "version": 1,
        "editable": False,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "browser",
        "templating": {"list": [_variable(*variable) for variable in board["variables"].items()]},
        "annotations": {"list": []},
        "links": [{"type": "dashboards", "title": "Passerelle", "tags": ["passerelle"], "asDropdown": True}],
        "panels": _panels(board["rows"]),
    }


def _variable(name: str, query: str) -> Json:
    return {
        "name": name,
        "type": "query",
        "datasource": SOURCE,
        "query": {"query": query, "refId": name},
        "definition": query,
        "refresh": 2,  # whenever the time range changes
        "includeAll": True,
        "multi": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    }


def _panels(rows: dict[str, list[list[Json]]]) -> list[Json]:
    made: list[Json] = []
    top = 0
    for title, lines in rows.items():
        place = {"x": 0, "y": top, "w": _WIDTH, "h": 1}
        made.append(
            {"id": len(made) + 1, "type": "row", "title": title, "collapsed": False, "gridPos": place, "panels": []}
        )
        top += 1
        for line in lines:
            width, height = _WIDTH // len(line), 4 if all(panel.get("kind") == "stat" for panel in line) else 8
            for index, panel in enumerate(line):
                place = {"x": index * width, "y": top, "w": width, "h": height}
                made.append(_panel(panel, len(made) + 1, place))
            top += height
    return made


def _panel(panel: Json, number: int, place: dict[str, int]) -> Json:
    kind, stack = panel.get("kind", "timeseries"), panel.get("stack", False)
    defaults: Json = {"unit": panel["unit"], "min": 0, "thresholds": _thresholds(panel.get("bad"), panel.get("low"))}
    made: Json = {
        "id": number,
        "type": kind,
        "title": panel["title"],
        "description": panel.get("says", ""),
        "datasource": SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + index), "datasource": SOURCE, "expr": query, "legendFormat": legend}
            for index, (legend, query) in enumerate(_queries(panel).items())
        ],
    }
    if kind == "timeseries":
        mode = "normal" if stack else "none"
        defaults["custom"] = {"fillOpacity": 25 if stack else 5, "stacking": {"mode": mode}, "showPoints": "never"}
        made["options"] = {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}}
    return made


def _queries(panel: Json) -> dict[str, str]:
    if "quantiles" not in panel:
        queries: dict[str, str] = panel["queries"]
        return queries
    of, by, ranks = (panel["quantiles"][name] for name in ("of", "by", "ranks"))
    rates = f'sum by ({by}, le) (rate({of}_bucket{{{by}=~"${by}"}}[$__rate_interval]))'
    return {f"p{rank * 100:.0f} {{{{{by}}}}}": f"histogram_quantile({rank}, {rates})" for rank in ranks}


def _thresholds(bad: float | None, low: float | None) -> Json:
    steps: list[Json] = [{"color": "green" if low is None else "red", "value": None}]
    if bad is not None:
        steps.append({"color": "red", "value": bad})
    if low is not None:
        steps.append({"color": "green", "value": low})
    return {"mode": "absolute", "steps": steps}


def write() -> None:
    """Write all boards."""
    for board in boards():
        (DASHBOARDS / f"{board['uid']}.json").write_text(text(board), encoding="utf-8")


if __name__ == "__main__":
    write()
