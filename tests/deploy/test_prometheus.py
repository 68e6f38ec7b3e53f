"""Prometheus' configuration and rules: they parse, each alert is tried, and every name in them is one that is really shown."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy import queries
from tests.deploy.document import ROOT
from tests.deploy.queries import (
    OF_PROMETHEUS,
    PROMETHEUS,
    alerts,
    grouped_by,
    metrics_in,
    promtool,
    records,
    vllm_metrics,
)
from tests.gateway.figures import Figures

TESTS = sorted((PROMETHEUS / "tests").glob("*.yml"))
DOCUMENT = ROOT / "docs" / "monitoring.md"
EVERY = [rule["expr"] for rule in queries.rules()]


def known(shown: Figures) -> dict[str, set[str]]:
    """Every name that a query may use, with its labels."""
    found = {"up": set[str](), **{name: grouped_by(query) for name, query in records().items()}, **vllm_metrics()}
    for sample in shown.samples:
        found.setdefault(sample.name, set()).update(sample.labels)
    return found


def unknown(query: str, names: dict[str, set[str]]) -> list[str]:
    """What a query names that nobody shows."""
    found = metrics_in(query)
    missing = [name for name in found if name not in names]
    labels = {f"{name}{{{label}}}" for name, of in found.items() for label in of - names.get(name, of) - OF_PROMETHEUS}
    all_labels = set().union(*(names.get(name, set()) for name in found))
    return [*missing, *sorted(labels), *sorted(grouped_by(query) - all_labels)]


def test_the_configuration_and_the_rules_are_good() -> None:
    assert "SUCCESS" in promtool("check", "config", PROMETHEUS / "prometheus.yml")


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_the_rules_pass_their_tests(path: Path) -> None:
    assert "SUCCESS" in promtool("test", "rules", path)


def cases(path: Path) -> list[dict[str, Any]]:
    tests: list[dict[str, Any]] = yaml.safe_load(path.read_text(encoding="utf-8"))["tests"]
    return tests


def test_each_alert_fires_in_a_test_of_its_case_and_none_in_the_normal_one() -> None:
    fired = set()
    for path in TESTS:
        for case in cases(path):
            for one in case["promql_expr_test"]:
                assert "ALERTS" in one["expr"] or path.stem == "normal"
                fired |= {
                    name for sample in one["exp_samples"] for name in re.findall(r'alertname="(\w+)"', sample["labels"])
                }
    assert fired == set(alerts())
    (normal,) = cases(PROMETHEUS / "tests" / "normal.yml")
    silent = [one for one in normal["promql_expr_test"] if "ALERTS" in one["expr"]]
    assert len(silent) == 3
    assert all(one["exp_samples"] == [] for one in silent)


def test_the_normal_case_has_every_metric_that_an_alert_looks_at() -> None:
    """An alert whose metric is not there is silent for the wrong reason."""
    (normal,) = cases(PROMETHEUS / "tests" / "normal.yml")
    given = {series["series"].partition("{")[0] for series in normal["input_series"]}
    looked_at = set().union(*(metrics_in(rule["expr"]) for rule in alerts().values()))
    looked_at |= set().union(*(metrics_in(query) for name, query in records().items() if name in looked_at))
    looked_at = {name for name in looked_at if not name.startswith("passerelle:")}
    assert looked_at - given == set()


async def test_every_name_in_the_rules_is_shown(shown: Figures) -> None:
    names = known(shown)
    assert {query: found for query in EVERY if (found := unknown(query, names))} == {}


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ("rate(passerelle_chat_total[5m])", "passerelle_chat_total"),
        ('passerelle_chats_total{tenant="a"}', "passerelle_chats_total{tenant}"),
        ("sum by (tenant) (passerelle_chats_total)", "tenant"),
        ("vllm:gpu_cache_usage_perc > 0.9", "vllm:gpu_cache_usage_perc"),
        ("passerelle:french:ratio", "passerelle:french:ratio"),
    ],
)
async def test_a_name_that_nobody_shows_is_noticed(shown: Figures, query: str, problem: str) -> None:
    assert unknown(query, known(shown)) == [problem]


@pytest.mark.parametrize("name", alerts())
def test_each_alert_says_how_bad_it_is_what_it_means_and_where_help_is(name: str) -> None:
    alert = alerts()[name]
    assert alert["labels"]["severity"] in ("critical", "warning", "info")
    assert all(alert["annotations"][key].endswith(".") for key in ("summary", "description"))
    file, _, anchor = alert["annotations"]["runbook"].partition("#")
    assert file in ("docs/monitoring.md", "docs/operations.md")
    if (path := ROOT / file).exists():
        assert anchor in anchors(path.read_text(encoding="utf-8"))


def anchors(text: str) -> set[str]:
    """The anchors of headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title).strip().lower().replace(" ", "-") for title in titles}


def table(title: str) -> list[list[str]]:
    """The rows of the table in a section of the document."""
    _, found, rest = DOCUMENT.read_text(encoding="utf-8").partition(f"\n## {title}\n")
    assert found, f"there is no section {title}"
    rows = [line for line in rest.partition("\n## ")[0].splitlines() if line.startswith("|")]
    return [[cell.strip().strip("`") for cell in row.strip("|").split(" |")] for row in rows[2:]]


async def test_the_document_lists_every_metric_with_its_type_and_labels(shown: Figures) -> None:
    listed = {row[0]: (row[1], set(re.findall(r"\w+", row[2]))) for row in table("Metrics")}
    real = {}
    for family in shown.families:
        labels = set().union(*(sample.labels for sample in family.samples)) - {"le"}
        name = f"{family.name}_total" if family.type == "counter" else family.name
        real[name] = (family.type, labels)
    assert listed == real


async def test_the_document_says_what_bounds_each_label(shown: Figures) -> None:
    bounded = {name for row in table("Labels and their bounds") for name in re.findall(r"\w+", row[0])}
    assert bounded == {label for sample in shown.samples for label in sample.labels} - {"le"}


def test_the_document_lists_every_alert_and_recorded_figure() -> None:
    assert {row[0]: row[1] for row in table("Alerts")} == {
        name: alert["labels"]["severity"] for name, alert in alerts().items()
    }
    text = DOCUMENT.read_text(encoding="utf-8")
    assert [name for name in records() if f"`{name}`" not in text] == []


def test_prometheus_asks_the_services_of_the_compose_file() -> None:
    configured = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text(encoding="utf-8"))
    jobs = {job["job_name"]: job["static_configs"][0]["targets"] for job in configured["scrape_configs"]}
    assert jobs == {"passerelle": ["gateway-a:8000", "gateway-b:8000"], "vllm": ["vllm:8000"]}
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["services"]
    if "prometheus" in services:
        hosts = {target.partition(":")[0] for targets in jobs.values() for target in targets}
        assert hosts <= set(services)
