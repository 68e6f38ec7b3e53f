"""PromQL as far as the checks of rules and boards need it: which metrics a query names, and with which labels."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.document import ROOT

PROMETHEUS = ROOT / "deploy" / "prometheus"
RULES = PROMETHEUS / "rules" / "passerelle.yml"
GRAFANA = ROOT / "deploy" / "grafana"

_NAME = re.compile(r"\b((?:passerelle_|passerelle:|vllm:)[\w:]+|up)\b(?:\{([^}]*)\})?")
_MATCHER = re.compile(r'(\w+)\s*(?:=~|!~|!=|=)\s*"[^"]*"')
_GROUPED = re.compile(r"\b(?:by|on)\s*\(([^)]*)\)")
OF_PROMETHEUS = {"job", "instance", "le"}  # labels that it adds, or that histograms have


def metrics_in(query: str) -> dict[str, set[str]]:
    """The metrics of a query, each with the labels it is chosen by."""
    found: dict[str, set[str]] = {}
    for match in _NAME.finditer(query):
        found.setdefault(match.group(1), set()).update(_MATCHER.findall(match.group(2) or ""))
    return found


def grouped_by(query: str) -> set[str]:
    """The labels that a query groups by."""
    lists = (match.group(1).split(",") for match in _GROUPED.finditer(query))
    return {name.strip() for names in lists for name in names if name.strip()} - OF_PROMETHEUS


def groups() -> list[dict[str, Any]]:
    """The groups of rules."""
    found: list[dict[str, Any]] = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    return found


def rules() -> list[dict[str, Any]]:
    """All rules."""
    return [rule for group in groups() for rule in group["rules"]]


def alerts() -> dict[str, dict[str, Any]]:
    """The alerts by name."""
    return {rule["alert"]: rule for rule in rules() if "alert" in rule}


def records() -> dict[str, str]:
    """The recorded figures and their queries."""
    return {rule["record"]: rule["expr"] for rule in rules() if "record" in rule}


def vllm_metrics() -> dict[str, set[str]]:
    """What a real vLLM showed: names, and the labels of each."""
    lines = (Path(__file__).parent / "data" / "vllm-metrics.txt").read_text(encoding="utf-8").splitlines()
    return {name: set(labels.split()) for name, _, labels in (line.partition(" ") for line in lines)}


def promtool(*arguments: str | Path) -> str:
    """What promtool prints; the test fails where it does, and is skipped where there is none."""
    found = shutil.which("promtool", path=f"{os.environ.get('PATH', '')}{os.pathsep}{ROOT / '.tools'}")
    if found is None:
        pytest.skip("there is no promtool: deploy/promtool.sh fetches it from Debian's package")
    run = subprocess.run(
        [found, *map(str, arguments)], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout
