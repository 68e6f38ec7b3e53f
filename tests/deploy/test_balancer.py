"""The balancer asks both gateways, lets through what callers may reach, and each check of that reports a broken copy."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.app import create_app
from gateway.settings import Settings
from tests.deploy import balancer as rules
from tests.deploy.balancer import RULES, Balancer, Rule, configuration
from tests.deploy.compose import effective
from tests.deploy.document import BASE, ROOT, Document, load, substitute

SECRETS = dict.fromkeys(("VLLM_API_KEY", "POSTGRES_PASSWORD", "REDIS_PASSWORD", "GRAFANA_PASSWORD"), "secret")
TEXT = (ROOT / "deploy" / "haproxy.cfg").read_text(encoding="utf-8")


def settings() -> Settings:
    return effective(load(BASE), ROOT, SECRETS)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_no_rule_is_broken(rule: Rule) -> None:
    assert rule(configuration(load(BASE), ROOT), load(BASE), settings()) == []


def test_every_route_but_metrics_and_readiness_is_reached(tmp_path: Path) -> None:
    found = settings()
    app = create_app(found.model_copy(update={"state": found.state.model_copy(update={"directory": tmp_path})}))
    paths = {*app.openapi()["paths"], "/openapi.json"}
    balancer = Balancer.read(TEXT)
    assert {path for path in paths if not balancer.passes(path, administrator=True)} == {"/metrics", "/readyz"}
    shut = {path for path in paths if not balancer.passes(path, administrator=False)}
    assert shut == {"/metrics", "/readyz"} | {path for path in paths if path.startswith("/admin/")}
    assert len(shut) > 2


@pytest.mark.parametrize("path", ["/metrics", "/metrics/", "//metrics", "/%6detrics", "/./metrics", "/", "/admin"])
def test_other_spellings_open_nothing(path: str) -> None:
    assert not Balancer.read(TEXT).passes(path, administrator=True)


def test_what_is_not_passed_on_is_answered_by_the_balancer() -> None:
    ready, unready, rest = Balancer.read(TEXT).lines("frontend api", "http-request", "return")
    assert [words[1] for words in (ready, unready, rest)] == ["200", "503", "404"]
    assert ready[-10:] == "if { path /readyz } { nbsrv(ready) gt 0 }".split()
    assert unready[-5:] == "if { path /readyz }".split()
    assert rest[-5:] == ["unless", "published", "or", "administration", "administrators"]


BROKEN: list[tuple[Rule, str, str, str]] = [
    (rules.servers, "server b gateway-b:8000", "", "backend ready: does not ask gateway-a:8000 and gateway-b:8000"),
    (rules.servers, "gateway-a:8000", "gateway-a:8001", "backend ready: does not ask gateway-a:8000"),
    (rules.servers, "uri /readyz", "uri /livez", "backend ready: does not check /readyz"),
    (rules.servers, "uri /livez", "uri /", "backend alive: does not check /livez"),
    (rules.servers, "default-server check", "default-server", "backend ready: has no check"),
    (rules.servers, "resolvers engine init", "init", "backend ready: has no resolvers"),
    (rules.places, "bind :8000", "bind :8080", "nothing listens at 8000, as published"),
    (rules.places, ":8404", ":8405", "nothing listens at http://127.0.0.1:8404/"),
    (rules.places, "${TLS_PROXY}", "${TLS_PROXIES}", "TLS_PROXIES is not in the environment"),
    (rules.times, "timeout server 620s", "timeout server 60s", "timeout server is no longer than times.total"),
    (rules.times, "timeout client 620s", "timeout client 10m", "timeout client is no longer than times.total"),
    (rules.times, "hard-stop-after 35s", "hard-stop-after 20s", "hard-stop-after is shorter"),
    (rules.times, "hard-stop-after 35s", "hard-stop-after 60s", "hard-stop-after is no shorter"),
    (
        rules.addresses,
        "set-header x-forwarded-for",
        "add-header x-forwarded-for",
        "x-forwarded-for is what callers say",
    ),
    (rules.addresses, "del-header forwarded", "del-header x", "forwarded is passed on"),
    (rules.addresses, "del-header connection", "del-header x", "connection is passed on"),
    (rules.streams, "option http-no-delay", "", "option http-no-delay is off"),
    (rules.streams, "option abortonclose", "", "option abortonclose is off"),
    (rules.streams, "retry-on conn-failure", "retry-on all-retryable-errors", "a request may be sent twice"),
]


@pytest.mark.parametrize(("rule", "old", "new", "sentence"), BROKEN, ids=[row[3] for row in BROKEN])
def test_each_rule_reports_what_breaks_it(rule: Rule, old: str, new: str, sentence: str) -> None:
    assert old in TEXT
    problems = rule(Balancer.read(TEXT.replace(old, new)), load(BASE), settings())
    assert problems[0].startswith(sentence)


def _other_network(document: Document) -> None:
    document["networks"]["balanced"]["ipam"]["config"] = [{"subnet": "172.30.88.0/28"}]


def _killed_early(document: Document) -> None:
    document["services"]["balancer"]["stop_grace_period"] = "10s"


@pytest.mark.parametrize(
    ("rule", "change", "sentence"),
    [
        (rules.addresses, _other_network, "trusted_proxies is not 172.30.88.0/28"),
        (rules.times, _killed_early, "hard-stop-after is no shorter than stop_grace_period"),
    ],
)
def test_a_compose_file_that_does_not_fit_is_reported(
    rule: Rule, change: Callable[[Document], None], sentence: str
) -> None:
    document = load(BASE)
    change(document)
    assert rule(Balancer.read(TEXT), document, settings()) == [sentence]


def test_errors_look_like_openais() -> None:
    told = re.findall(r"http-error status (\d+) content-type application/json string '(.*)'", TEXT)
    assert {status for status, _ in told} == {"408", "502", "503", "504"}
    assert all(text.startswith('{"error":{"message":') and '"code":' in text for _, text in told)


@pytest.mark.skipif(shutil.which("haproxy") is None, reason="haproxy is not on this machine")
def test_haproxy_itself_takes_the_file() -> None:
    given = substitute(load(BASE)["services"]["balancer"]["environment"], {})
    done = subprocess.run(
        ["haproxy", "-c", "-f", ROOT / "deploy" / "haproxy.cfg"],
        env=os.environ | given,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
