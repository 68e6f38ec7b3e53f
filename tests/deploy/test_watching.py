"""Prometheus and Grafana in the compose file: bounded, not open, and given what the repository has for them."""

from pathlib import Path

import pytest
import yaml

from tests.deploy.document import BASE, Document, load, mounts


@pytest.fixture
def services() -> Document:
    found: Document = load(BASE)["services"]
    return found


def test_prometheus_keeps_a_bounded_time_and_size(services: Document) -> None:
    flags = dict(word.split("=", 1) for word in services["prometheus"]["command"])
    assert flags["--storage.tsdb.retention.time"].endswith("d")
    assert flags["--storage.tsdb.retention.size"].endswith("GB")
    targets = {target: source for source, target, _ in mounts(services["prometheus"])}
    assert targets[str(Path(flags["--config.file"]).parent)] == "./deploy/prometheus"
    assert targets[flags["--storage.tsdb.path"]] == "prometheus-data"
    assert not {"--web.enable-lifecycle", "--web.enable-admin-api"} & {word.split("=")[0] for word in flags}


def test_prometheus_is_published_nowhere_and_grafana_on_this_machine(services: Document) -> None:
    assert "ports" not in services["prometheus"]
    assert services["grafana"]["ports"] == ["127.0.0.1:${GRAFANA_PORT:-3000}:3000"]


def test_grafana_lets_nobody_in_without_a_password(services: Document) -> None:
    environment = services["grafana"]["environment"]
    assert environment["GF_AUTH_ANONYMOUS_ENABLED"] == environment["GF_USERS_ALLOW_SIGN_UP"] == "false"
    assert environment["GF_SECURITY_ADMIN_PASSWORD"].startswith("${GRAFANA_PASSWORD:?")
    for name in ("GF_ANALYTICS_REPORTING_ENABLED", "GF_SNAPSHOTS_EXTERNAL_ENABLED", "GF_NEWS_NEWS_FEED_ENABLED"):
        assert environment[name] == "false"


def test_what_prometheus_asks_and_grafana_reads_is_there(services: Document, root: Path) -> None:
    folders = {target for _, target, _ in mounts(services["grafana"])}
    for file in (root / "deploy" / "grafana" / "provisioning" / "dashboards").glob("*.y*ml"):
        for provider in yaml.safe_load(file.read_text())["providers"]:
            assert provider["options"]["path"] in folders
    for file in (root / "deploy" / "grafana" / "provisioning" / "datasources").glob("*.y*ml"):
        for source in yaml.safe_load(file.read_text())["datasources"]:
            assert source["url"] == "http://prometheus:9090"
    for file in (root / "deploy" / "prometheus").glob("prometheus.yml"):
        assert {"gateway-a:8000", "gateway-b:8000", "vllm:8000"} <= _targets(yaml.safe_load(file.read_text()))


def _targets(value: object) -> set[str]:
    if isinstance(value, dict):
        return {text for part in value.values() for text in _targets(part)}
    if isinstance(value, list):
        return {text for part in value for text in _targets(part)}
    return {str(value)}
