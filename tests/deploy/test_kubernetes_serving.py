"""Each rule about how gateway, model server and network fit together reports a copy that breaks it."""

from functools import partial

import pytest

from tests.deploy.kubernetes import Documents, load
from tests.deploy.kubernetes_copies import GATEWAY, KEDA, VLLM, Change, box, pod, reported, toml, variable, word
from tests.deploy.kubernetes_network import network
from tests.deploy.kubernetes_rules import Rule
from tests.deploy.kubernetes_serving import configuration, probes, shutdown

OUT = frozenset({"gateway", "vllm"})

ON_SERVING: list[tuple[Rule, Change, str]] = [
    (configuration, lambda s: toml(s, "port = 8000", "prot = 8000"), "gateway: server.prot is not a setting"),
    (configuration, lambda s: toml(s, 'host = "0.0.0.0"', 'host = "127.0.0.1"'), "gateway: listens at 127.0.0.1:8000"),
    (configuration, lambda s: toml(s, "port = 8000", "port = 8001"), "gateway: listens at 0.0.0.0:8001"),
    (configuration, lambda s: toml(s, "workers = 1", "workers = 2"), "gateway: several workers share one /metrics"),
    (configuration, lambda s: toml(s, "/var/lib/passerelle", "/srv"), "gateway: /srv is no volume"),
    (configuration, lambda s: toml(s, '  "http://vllm-3.vllm:8000/v1",\n', ""), "gateway: the replicas are http://vllm-0"),
    (configuration, lambda s: toml(s, "vllm-3.vllm", "vllm-3.models"), "gateway: the replicas are http://vllm-0.vllm"),
    (configuration, lambda s: s[KEDA]["spec"].update(maxReplicaCount=5), "gateway: the replicas are http://vllm-0.vllm"),
    (
        configuration,
        lambda s: toml(s, 'model = "falcon3-7b-instruct"', 'model = "falcon3"'),
        "gateway: vllm does not serve falcon3",
    ),
    (
        configuration,
        lambda s: variable(s, GATEWAY, "PASSERELLE_CONFIG").update(value="/etc/x.toml"),
        "gateway: PASSERELLE_CONFIG names no mounted file",
    ),
    (
        configuration,
        lambda s: variable(s, GATEWAY, "VLLM_API_KEY").update(name="VLLM_KEY"),
        "gateway: targets.falcon3.api_key_env holds 'VLLM_API_KEY'",
    ),
    (
        configuration,
        lambda s: variable(s, GATEWAY, "PASSERELLE_AUTH__SIGNING_KEY")["valueFrom"]["secretKeyRef"].update(key="api-key"),
        "gateway: auth has a signing_key that holds no P-256",
    ),
    (shutdown, lambda s: pod(s, GATEWAY).update(terminationGracePeriodSeconds=40), "gateway: is killed after 40 s"),
    (shutdown, lambda s: toml(s, "shutdown_seconds = 30", "shutdown_seconds = 90"), "gateway: is killed after 75 s"),
    (shutdown, lambda s: pod(s, VLLM).pop("terminationGracePeriodSeconds"), "vllm: is killed after 30 s"),
    (shutdown, lambda s: box(s, GATEWAY).pop("lifecycle"), "gateway: stops before others know"),
    (probes, lambda s: box(s, GATEWAY).pop("startupProbe"), "gateway: has no startup probe"),
    (probes, lambda s: box(s, VLLM).pop("livenessProbe"), "vllm: has no liveness probe"),
    (
        probes,
        lambda s: box(s, GATEWAY)["readinessProbe"]["httpGet"].update(path="/healthz"),
        "gateway: the readiness probe asks for /healthz",
    ),
    (
        probes,
        lambda s: box(s, GATEWAY)["livenessProbe"]["httpGet"].update(port="https"),
        "gateway: the liveness probe asks port https",
    ),
    (
        probes,
        lambda s: box(s, GATEWAY)["livenessProbe"]["httpGet"].update(path="/readyz"),
        "gateway: is killed for what is away",
    ),
    (probes, lambda s: box(s, GATEWAY)["startupProbe"].pop("failureThreshold"), "gateway: may start for 15 s alone"),
    (probes, lambda s: box(s, VLLM)["livenessProbe"].update(failureThreshold=1), "vllm: is killed before it has been"),
    (probes, lambda s: box(s, VLLM)["startupProbe"].pop("timeoutSeconds"), "vllm: the startup probe is ended after 1 s"),
    (
        probes,
        lambda s: word(s, "startup", "falcon3-7b-instruct", "falcon-7b-instruct"),
        "vllm: the startup probe asks for falcon-7b-instruct, which is not served",
    ),
    (
        probes,
        lambda s: word(s, "liveness", "/etc/vllm/probe.py", "/probe.py"),
        "vllm: the liveness probe starts python3 /probe.py",
    ),
    (
        probes,
        lambda s: word(s, "readiness", "http://127.0.0.1:8000", "http://gateway:80"),
        "vllm: the readiness probe asks http://gateway:80",
    ),
    (
        probes,
        lambda s: box(s, VLLM)["readinessProbe"]["exec"].update(
            command=["python3", "/etc/vllm/probe.py", "http://127.0.0.1:8000"]
        ),
        "vllm: the readiness probe asks for no token",
    ),
]  # fmt: skip


OPENED: list[tuple[Change, str]] = [
    (lambda s: s.pop("NetworkPolicy default-deny"), "a caller can reach a neighbour at port 8000"),
    (lambda s: s["NetworkPolicy vllm"]["spec"]["ingress"].append({}), "the world can reach vllm at port 22"),
    (lambda s: s["NetworkPolicy vllm"]["spec"]["ingress"][0].pop("ports"), "gateway can reach vllm at port 22"),
    (
        lambda s: s["NetworkPolicy vllm"]["spec"]["ingress"][0]["from"][0].update(namespaceSelector={}),
        "a stranger can reach vllm at port 8000",
    ),
    (
        lambda s: s["NetworkPolicy vllm"]["spec"]["ingress"][0]["from"][0].update(podSelector={}),
        "a neighbour can reach vllm at port 8000",
    ),
    (
        lambda s: s["NetworkPolicy vllm"]["spec"]["ingress"][1]["from"][0].pop("podSelector"),
        "Grafana can reach vllm at port 8000",
    ),
    (lambda s: s["NetworkPolicy vllm"]["spec"]["ingress"].pop(0), "gateway cannot reach vllm at port 8000"),
    (lambda s: s["NetworkPolicy gateway"]["spec"]["egress"].pop(0), "gateway cannot reach vllm at port 8000"),
    (lambda s: s["NetworkPolicy gateway"]["spec"]["egress"].pop(1), "gateway cannot reach a private address at port 5432"),
    (lambda s: s["NetworkPolicy gateway"]["spec"]["ingress"].pop(0), "a caller cannot reach gateway at port 8000"),
    (lambda s: s.pop("NetworkPolicy dns"), "gateway cannot reach DNS at port 53"),
    (lambda s: s.pop("NetworkPolicy vllm-weights"), "vllm cannot reach the world at port 443"),
    (
        lambda s: s["NetworkPolicy vllm-weights"]["spec"]["egress"][0]["to"][0]["ipBlock"].pop("except"),
        "vllm can reach the cloud's metadata service at port 443",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "change", "sentence"), ON_SERVING)
def test_each_rule_reports_what_breaks_it(rule: Rule, change: Change, sentence: str) -> None:
    problems = reported(rule, change)
    assert problems[0].startswith(sentence)
    assert len(problems) <= 3  # and little else


@pytest.mark.parametrize(("change", "sentence"), OPENED)
def test_a_hole_in_the_network_is_reported(change: Change, sentence: str) -> None:
    problems = reported(partial(network, way_out=OUT), change)
    assert any(problem.startswith(sentence) for problem in problems)


def test_a_way_out_that_should_not_be_is_reported() -> None:
    documents: Documents = load("cluster")
    assert network(documents, OUT) == []
    problems = network(documents, frozenset({"gateway"}))
    assert problems == ["vllm can reach DNS at port 53", "vllm can reach the world at port 443"]
