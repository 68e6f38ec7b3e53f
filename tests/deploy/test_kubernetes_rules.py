"""Each rule about manifests reports a copy that breaks it, and says what is wrong with it."""

import pytest

from tests.deploy import kubernetes_rules as rules
from tests.deploy.kubernetes_copies import GATEWAY, HPA, KEDA, VLLM, Change, box, literal, pod, reported
from tests.deploy.kubernetes_rules import Rule
from tests.deploy.kubernetes_schemas import schemas

ON_MANIFESTS: list[tuple[Rule, Change, str]] = [
    (schemas, lambda s: s[GATEWAY]["spec"].update(replica=2), "Deployment gateway: spec: Additional properties"),
    (schemas, lambda s: s[GATEWAY]["spec"].pop("selector"), "Deployment gateway: spec: 'selector' is a required"),
    (schemas, lambda s: s[HPA]["spec"].update(minReplicas="2"), "HorizontalPodAutoscaler gateway: spec.minReplicas: "),
    (schemas, lambda s: s[KEDA]["spec"].update(maxReplicas=4), "ScaledObject vllm: spec.maxReplicas is not known"),
    (schemas, lambda s: s[KEDA]["spec"].pop("triggers"), "ScaledObject vllm: spec.triggers is missing"),
    (
        schemas,
        lambda s: s[KEDA]["spec"]["triggers"][0]["metadata"].update(threshold=4),
        "ScaledObject vllm: spec.triggers.0.metadata.threshold is no str",
    ),
    (
        schemas,
        lambda s: s[KEDA]["spec"]["triggers"][0]["metadata"].pop("query"),
        "ScaledObject vllm: the prometheus trigger has",
    ),
    (schemas, lambda s: s["PodMonitor vllm"]["spec"].pop("selector"), "PodMonitor vllm: spec.selector is missing"),
    (rules.images, lambda s: box(s, VLLM).update(image="vllm/vllm-openai:latest"), "vllm: image vllm/vllm-openai:latest"),
    (rules.images, lambda s: box(s, GATEWAY).update(image="passerelle/gateway"), "gateway: image passerelle/gateway"),
    (rules.names, lambda s: s[GATEWAY]["metadata"].update(namespace="default"), "Deployment gateway: lies in another"),
    (rules.names, lambda s: s.update(again=s[GATEWAY]), "Deployment gateway: is there twice"),
    (
        rules.names,
        lambda s: s["Namespace passerelle"]["metadata"]["labels"].pop("pod-security.kubernetes.io/enforce"),
        "Namespace passerelle: enforces None",
    ),
    (
        rules.selectors,
        lambda s: s[GATEWAY]["spec"]["selector"]["matchLabels"].update(tier="x"),
        "Deployment gateway: selects pods of other labels",
    ),
    (
        rules.selectors,
        lambda s: s["Service gateway"]["spec"].update(selector={"app": "gateway"}),
        "Service gateway: selects no pod",
    ),
    (
        rules.selectors,
        lambda s: s["NetworkPolicy vllm"]["spec"]["ingress"][0]["from"][0]["podSelector"].update(matchLabels={"a": "b"}),
        "NetworkPolicy vllm: selects no pod",
    ),
    (
        rules.selectors,
        lambda s: s["PodDisruptionBudget vllm"]["spec"]["selector"].update(matchLabels={"a": "b"}),
        "PodDisruptionBudget vllm: selects no pod",
    ),
    (
        rules.selectors,
        lambda s: pod(s, VLLM)["topologySpreadConstraints"][0]["labelSelector"].update(matchLabels={"a": "b"}),
        "StatefulSet vllm: selects no pod",
    ),
    (
        rules.ports,
        lambda s: s["Service gateway"]["spec"]["ports"][0].update(targetPort=80),
        "Service gateway: gateway has no port 80",
    ),
    (
        rules.ports,
        lambda s: s["PodMonitor vllm"]["spec"]["podMetricsEndpoints"][0].update(port="metrics"),
        "PodMonitor vllm: vllm has no port metrics",
    ),
    (rules.volumes, lambda s: pod(s, GATEWAY)["volumes"].pop(), "gateway: there is no volume "),
    (rules.volumes, lambda s: s[VLLM]["spec"].pop("volumeClaimTemplates"), "vllm: there is no volume weights"),
    (
        rules.volumes,
        lambda s: pod(s, GATEWAY)["volumes"].append({"name": "x", "hostPath": {"path": "/"}}),
        "gateway: volume x is a hostPath",
    ),
    (
        rules.volumes,
        lambda s: pod(s, VLLM)["volumes"].append({"name": "x", "configMap": {"name": "y"}}),
        "vllm: there is no ConfigMap y",
    ),
    (rules.references, lambda s: pod(s, VLLM).pop("serviceAccountName"), "vllm: has no ServiceAccount of its own"),
    (
        rules.references,
        lambda s: s["ServiceAccount vllm"].pop("automountServiceAccountToken"),
        "ServiceAccount vllm: mounts its token",
    ),
    (rules.references, lambda s: pod(s, GATEWAY).pop("automountServiceAccountToken"), "gateway: mounts a token"),
    (rules.references, lambda s: pod(s, VLLM).pop("enableServiceLinks"), "vllm: gets variables named after Services"),
    (rules.references, lambda s: s["Service vllm"]["spec"].pop("clusterIP"), "vllm: its serviceName is no headless"),
    (rules.references, lambda s: s[VLLM]["spec"].update(serviceName="gateway"), "vllm: its serviceName is no headless"),
    (
        rules.scaling,
        lambda s: s[HPA]["spec"]["scaleTargetRef"].update(name="gate"),
        "HorizontalPodAutoscaler gateway: there is no Deployment gate",
    ),
    (
        rules.scaling,
        lambda s: s[KEDA]["spec"]["scaleTargetRef"].pop("kind"),
        "ScaledObject vllm: there is no Deployment vllm",
    ),
    (
        rules.scaling,
        lambda s: s[KEDA]["spec"].update(scaleTargetRef={"kind": "Deployment", "name": "gateway"}),
        "ScaledObject vllm: gateway is scaled by another one",
    ),
    (rules.scaling, lambda s: s[VLLM]["spec"].update(replicas=1), "StatefulSet vllm: sets replicas, which ScaledObject"),
    (rules.scaling, lambda s: s[KEDA]["spec"].pop("minReplicaCount"), "ScaledObject vllm: scales from 0 to 4"),
    (
        rules.scaling,
        lambda s: s[KEDA]["spec"]["fallback"].update(replicas=9),
        "ScaledObject vllm: falls back to 9 of 2 to 4",
    ),
    (
        rules.disruptions,
        lambda s: s["PodDisruptionBudget gateway"]["spec"].update(maxUnavailable=0),
        "PodDisruptionBudget gateway: does not let one",
    ),
    (
        rules.disruptions,
        lambda s: s[GATEWAY]["spec"]["strategy"]["rollingUpdate"].update(maxUnavailable=1),
        "Deployment gateway: a rollout takes pods away",
    ),
    (rules.security, lambda s: pod(s, VLLM)["securityContext"].pop("runAsNonRoot"), "vllm: may run as root"),
    (rules.security, lambda s: pod(s, VLLM)["securityContext"].update(runAsUser=0), "vllm: may run as root"),
    (rules.security, lambda s: pod(s, GATEWAY)["securityContext"].pop("seccompProfile"), "gateway: has no seccomp"),
    (rules.security, lambda s: pod(s, GATEWAY).update(hostNetwork=True), "gateway: hostNetwork is set"),
    (
        rules.security,
        lambda s: box(s, VLLM)["securityContext"].pop("readOnlyRootFilesystem"),
        "vllm: readOnlyRootFilesystem is not True",
    ),
    (
        rules.security,
        lambda s: box(s, VLLM)["securityContext"]["capabilities"].update(add=["SYS_PTRACE"]),
        "vllm: capabilities is not",
    ),
    (
        rules.security,
        lambda s: box(s, GATEWAY)["securityContext"].update(runAsUser=0),
        "gateway: a container has its own runAsUser",
    ),
    (rules.security, lambda s: pod(s, GATEWAY).update(initContainers=[{"name": "x", "image": "x", "securityContext":
        {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True}}]), "gateway: capabilities is not"),
    (rules.resources, lambda s: box(s, GATEWAY)["resources"]["limits"].pop("memory"), "gateway: has no limit of memory"),
    (rules.resources, lambda s: box(s, VLLM)["resources"]["requests"].pop("cpu"), "vllm: requests no cpu"),
    (
        rules.resources,
        lambda s: box(s, VLLM)["resources"]["requests"].update({"nvidia.com/gpu": "2"}),
        "vllm: requests other GPUs than its limit",
    ),
    (
        rules.secrets,
        lambda s: s.update(x={"kind": "Secret", "metadata": {"name": "x"}}),
        "Secret x: secrets are not kept here",
    ),
    (rules.secrets, lambda s: literal(s, VLLM, "VLLM_API_KEY"), "vllm: VLLM_API_KEY is not taken from a secret"),
    (
        rules.secrets,
        lambda s: literal(s, GATEWAY, "PASSERELLE_STATE__DATABASE_URL"),
        "gateway: PASSERELLE_STATE__DATABASE_URL is not taken",
    ),
    (rules.secrets, lambda s: box(s, VLLM)["args"].append("--api-key=x"), "vllm: --api-key=x is literal"),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "change", "sentence"), ON_MANIFESTS)
def test_each_rule_reports_what_breaks_it(rule: Rule, change: Change, sentence: str) -> None:
    problems = reported(rule, change)
    assert problems[0].startswith(sentence)
    assert len(problems) <= 3  # and little else
