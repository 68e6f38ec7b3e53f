"""Every overlay, as kubectl renders it, is what the cluster's API takes, and nothing in it is weaker than it looks."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from gateway import load as load_of_replicas
from gateway.metrics import Metrics
from serving.environment import find_python
from serving.plan import Options, Plan
from serving.prepare import make
from serving.profiles import find_profile
from tests.deploy.dockerfile import Dockerfile
from tests.deploy.document import ROOT
from tests.deploy.kubernetes import (
    FOLDER,
    NAMESPACE,
    OVERLAYS,
    Document,
    Documents,
    find,
    flags,
    load,
    of_kind,
    pods,
    replicas,
    secret_keys,
)
from tests.deploy.kubernetes_network import network
from tests.deploy.kubernetes_rules import RULES, Rule
from tests.deploy.kubernetes_schemas import schemas
from tests.deploy.kubernetes_serving import configuration, effective, probes, shutdown

GUIDE = (ROOT / "docs" / "kubernetes.md").read_text(encoding="utf-8")
PROFILES = {
    "one-gpu": "falcon-7b-instruct",
    "offline": "falcon-7b-instruct",
    "cluster": "falcon3-7b-instruct",
    "cpu": "gemma-3-270m",
}
# What may reach the world: the gateway for the fallback, the model server for its weights.
WAY_OUT = {"one-gpu": {"gateway", "vllm"}, "cluster": {"gateway", "vllm"}, "cpu": {"gateway"}, "offline": set[str]()}
ON_GPU = [overlay for overlay in OVERLAYS if overlay != "cpu"]


@pytest.fixture(params=OVERLAYS)
def overlay(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def documents(overlay: str) -> Documents:
    return load(overlay)


def vllm(documents: Documents) -> Document:
    (made,) = (each for each in pods(documents) if each.name == "vllm")
    (container,) = made.containers
    return container


def test_every_overlay_is_among_the_tested() -> None:
    assert set(OVERLAYS) == set(PROFILES) == set(WAY_OUT)


@pytest.mark.parametrize(
    "rule", [*RULES, schemas, configuration, shutdown, probes], ids=lambda rule: str(rule.__name__)
)
def test_no_rule_is_broken(rule: Rule, documents: Documents) -> None:
    assert rule(documents) == []


def test_only_who_has_to_reaches_anything(overlay: str, documents: Documents) -> None:
    assert network(documents, frozenset(WAY_OUT[overlay])) == []


def test_the_target_is_the_profile_that_is_served(overlay: str, documents: Documents) -> None:
    settings, served = effective(documents), find_profile(PROFILES[overlay])
    (model,) = settings.models.values()
    target = settings.targets[model.targets[0]]
    assert (target.model, target.context_length) == (served.served_name, served.context)
    assert target.defaults == dict(served.defaults)


def test_all_pods_share_the_keys_that_sign(documents: Documents) -> None:
    settings = effective(documents)
    assert settings.auth.signing_key is not None
    assert settings.auth.api_key_secret is not None


def test_every_secret_is_made_in_the_guide(documents: Documents) -> None:
    made = re.findall(r"^ *kubectl create secret generic (\S+)(.*?[^\\])$", GUIDE, re.MULTILINE | re.DOTALL)
    known = {(name, key) for name, rest in made for key in re.findall(r"--from-(?:file|literal)=([\w-]+)=", rest)}
    needed = {(name, key) for name, key, optional in secret_keys(documents) if not optional}
    assert needed == known
    assert all(key in GUIDE for _, key, _ in secret_keys(documents))


def test_a_replica_is_tried_twice_before_the_gateway_is_asked_for_anything(documents: Documents) -> None:
    (gateway,) = (each for each in pods(documents) if each.name == "gateway")
    routing = effective(documents).routing
    first, jitter = routing.probe_seconds, 1.25  # as gateway/probe.py spreads them
    known_after = first + routing.probe_seconds * jitter
    assert gateway.containers[0]["startupProbe"]["initialDelaySeconds"] >= known_after


def test_a_replica_that_is_not_ready_could_not_answer_the_gateway_either(documents: Documents) -> None:
    readiness, first = vllm(documents)["readinessProbe"], effective(documents).times.first_content
    assert readiness["timeoutSeconds"] >= first


# Copies, since kustomize reads nothing above its own folder.
@pytest.mark.parametrize(
    ("copy", "original"), [("probe.py", "deploy/probe.py"), ("falcon.jinja", "serving/templates/falcon.jinja")]
)
def test_a_copy_is_its_original(copy: str, original: str) -> None:
    assert (FOLDER / "base" / copy).read_bytes() == (ROOT / original).read_bytes()


def _plan(profile: str) -> Plan:
    options = Options(gpus="1xL4", model=profile, host="0.0.0.0", port=8000)  # noqa: S104  # inside its pod
    return make(options, runnable=False)


@pytest.mark.parametrize("overlay", ON_GPU)
def test_vllm_is_started_as_the_plan_for_a_l4_says(overlay: str) -> None:
    container, argv = vllm(load(overlay)), _plan(PROFILES[overlay]).argv
    assert container["command"] == ["python3", *argv[1:3]]
    planned = dict(zip(argv[3::2], argv[4::2], strict=True))
    given = flags(container)
    assert given.pop("--shutdown-timeout", "")
    if "--chat-template" in planned:
        assert Path(planned.pop("--chat-template")).name == Path(given.pop("--chat-template")).name
    assert planned.pop("--tensor-parallel-size") == "1"  # vLLM's default
    assert given == planned


@pytest.mark.parametrize("overlay", ON_GPU)
def test_the_image_has_the_version_of_the_lock_and_a_card(overlay: str) -> None:
    locked = re.search(r"^vllm==(\S+)", (ROOT / "serving" / "requirements-cuda.txt").read_text(), re.MULTILINE)
    assert locked is not None
    container = vllm(load(overlay))
    assert container["image"] == f"vllm/vllm-openai:v{locked[1]}"
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"


def test_the_one_without_a_card_asks_for_none() -> None:
    assert "nvidia.com/gpu" not in str(vllm(load("cpu")))


@pytest.mark.vllm
def test_vllms_own_parser_knows_every_flag() -> None:
    container = vllm(load("one-gpu"))
    assert set(flags(vllm(load("cluster")))) <= set(flags(container))
    # One flag it cannot know: the parser then names all that it does not know, and ends before anything is started.
    words = [find_python(), *container["command"][1:], *container["args"], "--no-such-flag"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 2, done.stderr[-1000:]
    assert done.stderr.strip().endswith("unrecognized arguments: --no-such-flag")


def test_the_cpu_overlay_starts_a_command_of_ours() -> None:
    from gateway.cli import parser  # builds every command

    container = vllm(load("cpu"))
    assert "command" not in container  # the image's own: python -m gateway.cli
    assert parser().parse_args(container["args"]).func


@pytest.mark.parametrize(("name", "file"), [("gateway", "gateway.Dockerfile"), ("vllm", "vllm-cpu.Dockerfile")])
def test_an_image_of_ours_runs_as_its_user_and_keeps_things_on_volumes(name: str, file: str) -> None:
    (made,) = (each for each in pods(load("cpu")) if each.name == name)
    built, context = Dockerfile.read(ROOT / "deploy" / file), made.spec["securityContext"]
    assert f"{context['runAsUser']}:{context['runAsGroup']}" == built.all("USER")[-1]
    mounted = [mount["mountPath"] for mount in made.containers[0]["volumeMounts"] if not mount.get("readOnly")]
    assert built.all("WORKDIR")[-1] in mounted


def test_the_metric_that_scales_the_gateway_is_its_own_and_served() -> None:
    scaler = find(load("cluster"), "HorizontalPodAutoscaler", "gateway")
    assert scaler is not None
    (metric,) = (entry["pods"]["metric"]["name"] for entry in scaler["spec"]["metrics"])
    assert f"# TYPE {metric} gauge" in Metrics().render().decode()
    values = yaml.safe_load((FOLDER / "prometheus-adapter.yaml").read_text(encoding="utf-8"))
    (rule,) = values["rules"]["custom"]
    assert rule["seriesQuery"].partition("{")[0] == rule["name"]["as"] == metric
    assert re.fullmatch(rule["name"]["matches"], metric)
    assert rule["resources"]["overrides"] == {name: {"resource": name} for name in ("namespace", "pod")}


def test_keda_asks_for_what_waits_at_these_pods() -> None:
    (scaler,) = of_kind(load("cluster"), "ScaledObject")
    queries = [trigger["metadata"]["query"] for trigger in scaler["spec"]["triggers"]]
    text = Path(load_of_replicas.__file__).read_text(encoding="utf-8")
    asked = [re.fullmatch(r'sum\(([\w:]+)\{namespace="([\w-]+)"\}\)', query) for query in queries]
    assert [found[2] for found in asked if found] == [NAMESPACE] * len(queries)
    assert all(found and f'"{found[1]}"' in text for found in asked)  # the gateway balances by the same figures
    assert "vllm:num_requests_waiting" in queries[0]


def test_the_most_replicas_are_as_many_as_the_gateway_names() -> None:
    documents = load("cluster")
    assert replicas(documents, "vllm") == len(effective(documents).targets["falcon3"].urls) == 4


def test_whatever_scales_by_figures_has_them_read() -> None:
    monitors = {monitor["metadata"]["name"] for monitor in of_kind(load("cluster"), "PodMonitor")}
    assert monitors == {"gateway", "vllm"}


def test_jobs_are_called_as_the_rules_call_them() -> None:
    (rules,) = (ROOT / "deploy/prometheus/rules").glob("*.yml")
    named = {
        relabeling["replacement"]
        for monitor in of_kind(load("cluster"), "PodMonitor")
        for relabeling in monitor["spec"]["podMetricsEndpoints"][0]["relabelings"]
        if relabeling["targetLabel"] == "job"
    }
    assert named == set(re.findall(r'job="([^"]+)"', rules.read_text(encoding="utf-8")))


def test_replicas_without_a_way_out_share_weights_that_they_cannot_write() -> None:
    container = vllm(load("offline"))
    assert {"name": "HF_HUB_OFFLINE", "value": "1"} in container["env"]
    assert {"name": "weights", "mountPath": "/models", "readOnly": True} in container["volumeMounts"]
    assert not any(each.document["spec"].get("volumeClaimTemplates") for each in pods(load("offline")))
