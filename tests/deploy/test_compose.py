"""The compose files name only what exists, and nothing in them is weaker than it looks."""

import json
import re
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from serving.environment import find_python
from serving.plan import Options, Plan
from serving.prepare import make
from serving.profiles import find_profile
from tests.deploy import compose
from tests.deploy.compose import RULES, Rule, effective, gateways, settings
from tests.deploy.dockerfile import Dockerfile
from tests.deploy.document import BASE, CPU, ROOT, Document, UnsetVariable, load, mounts, substitute, variables

SECRETS = {
    "VLLM_API_KEY": "cle",
    "POSTGRES_PASSWORD": "secret1",
    "REDIS_PASSWORD": "secret2",
    "GRAFANA_PASSWORD": "secret3",
}
FILES = {"gpu": (BASE,), "cpu": (BASE, CPU)}


@pytest.fixture(params=FILES)
def document(request: pytest.FixtureRequest) -> Document:
    return load(*FILES[request.param])


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_no_rule_is_broken(rule: Rule, document: Document, root: Path) -> None:
    assert rule(document, root) == []


def test_the_gateway_accepts_its_configuration(document: Document) -> None:
    assert settings(document, ROOT, SECRETS) == []
    loaded = effective(document, ROOT, SECRETS)
    assert loaded.state.database() == "postgresql://passerelle:secret1@postgres:5432/passerelle"
    assert loaded.state.redis_url is not None
    assert loaded.state.redis_url.get_secret_value() == "redis://:secret2@redis:6379/0"
    assert len(loaded.models) == 1


@pytest.mark.parametrize("missing", SECRETS)
def test_compose_refuses_to_start_without_a_secret(missing: str, document: Document) -> None:
    with pytest.raises(UnsetVariable, match=f"{missing} is missing a value: set it in .env"):
        substitute(document, SECRETS | {missing: ""})


def test_the_example_documents_every_variable_and_sets_no_secret(document: Document) -> None:
    lines = (ROOT / "deploy" / ".env.example").read_text(encoding="utf-8").splitlines()
    example = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    assert set(example) == set(variables(document))
    assert all(example[name] == "" for name in [*SECRETS, "OPENAI_API_KEY"])


def test_streams_may_end_before_the_container_is_killed(document: Document) -> None:
    grace = int(document["services"]["gateway-a"]["stop_grace_period"].removesuffix("s"))
    assert grace > effective(document, ROOT, SECRETS).server.shutdown_seconds


def test_nobody_is_unhealthy_while_weights_may_still_be_fetched(document: Document) -> None:
    guide = (ROOT / "docs" / "deployment.md").read_text(encoding="utf-8")
    assert set(re.findall(r"--wait-timeout (\d+)", guide)) == {"3600"}
    for name in ("vllm", "gateway-a", "gateway-b", "balancer"):
        assert document["services"][name]["healthcheck"]["start_period"] == "1h"


def test_the_gateway_listens_where_it_is_asked(document: Document) -> None:
    server = effective(document, ROOT, SECRETS).server
    assert server.host == "0.0.0.0"  # noqa: S104  # inside its container
    for gateway in gateways(document).values():
        assert f"http://127.0.0.1:{server.port}/readyz" in gateway["healthcheck"]["test"]


def test_two_gateways_share_keys_and_journals(document: Document) -> None:
    found = gateways(document)
    assert set(found) == {"gateway-a", "gateway-b"}
    kept = {target: source for gateway in found.values() for source, target, _ in mounts(gateway)}
    assert kept[str(effective(document, ROOT, SECRETS).state.directory)] == "gateway-state"


def test_only_the_gateways_reach_the_model_server_and_the_state(document: Document) -> None:
    members = {
        network: {name for name, service in document["services"].items() if network in service["networks"]}
        for network in document["networks"]
    }
    both = set(gateways(document))
    assert members == {
        "outside": {"balancer", "grafana"},
        "balanced": {"balancer"} | both,
        "models": {"vllm"} | both,
        "state": {"postgres", "redis"} | both,
        "measures": {"prometheus", "vllm"} | both,
        "boards": {"prometheus", "grafana"},
    }
    inside = {name for name, network in document["networks"].items() if network.get("internal")}
    assert inside == {"balanced", "state", "measures", "boards"}


@pytest.mark.parametrize(("kind", "profile"), [("gpu", "falcon-7b-instruct"), ("cpu", "gemma-3-270m")])
def test_the_target_is_the_profile_that_is_served(kind: str, profile: str) -> None:
    loaded, served = effective(load(*FILES[kind]), ROOT, SECRETS), find_profile(profile)
    (model,) = loaded.models.values()
    target = loaded.targets[model.targets[0]]
    assert [str(url) for url in target.urls] == ["http://vllm:8000/v1"]
    assert (target.model, target.context_length) == (served.served_name, served.context)
    assert target.defaults == dict(served.defaults)
    assert profile in load(*FILES[kind])["services"]["vllm"]["healthcheck"]["test"]


def _plan() -> Plan:
    options = Options(gpus="1xL4", model="falcon-7b-instruct", host="0.0.0.0", port=8000)  # noqa: S104  # in its container
    return make(options, runnable=False)


def _vllm_flags() -> dict[str, str]:
    words = load(BASE)["services"]["vllm"]["command"]
    return dict(word.split("=", 1) for word in words)


def test_vllm_is_started_as_the_plan_for_a_l4_says() -> None:
    argv, flags = _plan().argv, _vllm_flags()
    assert load(BASE)["services"]["vllm"]["entrypoint"] == ["python3", *argv[1:3]]
    planned = dict(zip(argv[3::2], argv[4::2], strict=True))
    template = planned.pop("--chat-template")
    assert Path(template).name == Path(flags.pop("--chat-template")).name
    assert int(flags.pop("--shutdown-timeout")) < 80  # its stop_grace_period
    assert planned.pop("--tensor-parallel-size") == "1"  # vLLM's default
    assert flags == planned
    target = tomllib.loads((ROOT / "deploy/passerelle.toml").read_text())["targets"]["falcon"]
    assert target["concurrency"] == int(flags["--max-num-seqs"])


def test_the_mounted_template_is_the_profiles() -> None:
    volumes = load(BASE)["services"]["vllm"]["volumes"]
    template = find_profile("falcon-7b-instruct").template
    assert template is not None
    assert f"./{template.relative_to(ROOT)}:{_vllm_flags()['--chat-template']}:ro" in volumes


def test_the_image_has_the_version_of_the_lock() -> None:
    locked = re.search(r"^vllm==(\S+)", (ROOT / "serving" / "requirements-cuda.txt").read_text(), re.MULTILINE)
    assert locked is not None
    bases = Dockerfile.read(ROOT / load(BASE)["services"]["vllm"]["build"]["dockerfile"]).all("FROM")
    assert bases == [f"vllm/vllm-openai:v{locked[1]}"]


@pytest.mark.vllm
def test_vllms_own_parser_knows_every_flag() -> None:
    vllm = load(BASE)["services"]["vllm"]
    # One flag it cannot know: the parser then names all that it does not know, and ends before anything is started.
    words = [find_python(), *vllm["entrypoint"][1:], *vllm["command"], "--no-such-flag"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 2, done.stderr[-1000:]
    assert done.stderr.strip().endswith("unrecognized arguments: --no-such-flag")


def unshared(document: Document) -> Document:
    """A copy in which what anchors share is there once for each, so that one can be changed alone."""
    copied: Document = json.loads(json.dumps(document))
    return copied


Change = Callable[[dict[str, Any]], Any]

BROKEN: list[tuple[str, Rule, Change, str]] = [
    (
        "latest",
        compose.images,
        lambda s: s["redis"].update(image="redis:latest"),
        "redis: image redis:latest is not pinned",
    ),
    ("no tag", compose.images, lambda s: s["redis"].update(image="redis"), "redis: image redis is not pinned"),
    (
        "major only",
        compose.images,
        lambda s: s["postgres"].update(image="postgres:18"),
        "postgres: image postgres:18 is",
    ),
    (
        "no file",
        compose.images,
        lambda s: s["gateway-a"]["build"].update(dockerfile="x"),
        "gateway-a: x does not exist",
    ),
    (
        "subcommand",
        compose.commands,
        lambda s: s["gateway-a"].update(command=["gatewy"]),
        "gateway-a: passerelle: error: ",
    ),
    (
        "option",
        compose.commands,
        lambda s: s["gateway-a"].update(command=["gateway", "--prot=1"]),
        "gateway-a: passerelle: error",
    ),
    ("nothing", compose.commands, lambda s: s["gateway-a"].update(command=[]), "gateway-a: names no command"),
    (
        "program",
        compose.commands,
        lambda s: s["gateway-a"].update(entrypoint=["uvicorn"]),
        "gateway-a: uvicorn gateway is no",
    ),
    (
        "stranger",
        compose.commands,
        lambda s: s["redis"].update(command=["valkey-server"]),
        "redis: redis is not known to",
    ),
    (
        "in the shell",
        compose.commands,
        lambda s: s["redis"].update(command=["sh", "-c", "exec redis-sever --save ''"]),
        "redis: redis is not known to have sh",
    ),
    ("no check", compose.healthchecks, lambda s: s["redis"].pop("healthcheck"), "redis: has no healthcheck"),
    (
        "off",
        compose.healthchecks,
        lambda s: s["redis"]["healthcheck"].update(disable=True),
        "redis: has no healthcheck",
    ),
    (
        "curl",
        compose.healthchecks,
        lambda s: s["gateway-a"]["healthcheck"].update(test=["CMD", "curl", "http://127.0.0.1"]),
        "gateway-a: the healthcheck starts curl",
    ),
    (
        "another host",
        compose.healthchecks,
        lambda s: s["vllm"]["healthcheck"].update(test=["CMD", "python3", "/probe.py", "http://gateway/livez"]),
        "vllm: the healthcheck asks http://gateway/livez",
    ),
    (
        "slow",
        compose.healthchecks,
        lambda s: s["redis"]["healthcheck"].update(timeout="9s"),
        "redis: a healthcheck may take",
    ),
    ("mount", compose.mounted_files, lambda s: s["vllm"]["volumes"].append("./x:/x:ro"), "vllm: ./x does not exist"),
    (
        "rw",
        compose.mounted_files,
        lambda s: s["vllm"]["volumes"].append("./Makefile:/m"),
        "vllm: ./Makefile can be written",
    ),
    ("volume", compose.mounted_files, lambda s: s["vllm"]["volumes"].append("x:/x"), "vllm: volume x is not declared"),
    ("network", compose.mounted_files, lambda s: s["vllm"]["networks"].append("x"), "vllm: network x is not declared"),
    (
        "literal",
        compose.secrets,
        lambda s: s["postgres"]["environment"].update(POSTGRES_PASSWORD="postgres"),
        "postgres: POSTGRES_PASSWORD is not taken from a required variable",
    ),
    (
        "default",
        compose.secrets,
        lambda s: s["vllm"]["environment"].update(VLLM_API_KEY="${VLLM_API_KEY:-changeme}"),
        "vllm: VLLM_API_KEY is not taken from a required variable",
    ),
    (
        "in a URL",
        compose.secrets,
        lambda s: s["gateway-a"]["environment"].update(PASSERELLE_STATE__DATABASE_URL="postgresql://a:b@postgres/a"),
        "gateway-a: PASSERELLE_STATE__DATABASE_URL holds a password",
    ),
    (
        "argument",
        compose.secrets,
        lambda s: s["redis"].update(command=["redis-server", "--requirepass", "hunter2"]),
        "redis: --requirepass is literal",
    ),
    ("published", compose.ports, lambda s: s["redis"].update(ports=["127.0.0.1:6379:6379"]), "redis: publishes a port"),
    (
        "past the balancer",
        compose.ports,
        lambda s: s["gateway-a"].update(ports=["127.0.0.1:8001:8000"]),
        "gateway-a: publishes a port",
    ),
    ("boards for all", compose.ports, lambda s: s["grafana"].update(ports=["3000:3000"]), "grafana: publishes a port"),
    ("host network", compose.ports, lambda s: s["vllm"].update(network_mode="host"), "vllm: is in the host's network"),
    ("unpublished", compose.ports, lambda s: s["balancer"].pop("ports"), "balancer: publishes no port"),
    ("privileged", compose.privileges, lambda s: s["vllm"].update(privileged=True), "vllm: keeps capabilities"),
    ("capabilities", compose.privileges, lambda s: s["vllm"].pop("cap_drop"), "vllm: keeps capabilities"),
    ("one back", compose.privileges, lambda s: s["redis"].update(cap_add=["SETUID"]), "redis: keeps capabilities"),
    ("setuid", compose.privileges, lambda s: s["redis"].pop("security_opt"), "redis: may gain privileges"),
    ("writes", compose.privileges, lambda s: s["prometheus"].update(read_only=False), "prometheus: can write its root"),
    ("root", compose.privileges, lambda s: s["vllm"].update(user="0:0"), "vllm: runs as root"),
    ("nobody said", compose.privileges, lambda s: s["grafana"].pop("user"), "grafana: runs as root"),
]


@pytest.mark.parametrize(("rule", "change", "sentence"), [row[1:] for row in BROKEN], ids=[row[0] for row in BROKEN])
def test_each_rule_reports_what_breaks_it(rule: Rule, change: Change, sentence: str, root: Path) -> None:
    document = unshared(load(BASE))
    change(document["services"])
    (problem,) = rule(document, root)
    assert problem.startswith(sentence)


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("PASSERELLE_SERVER__PROT", "1", "gateway-a: server.prot is not a setting"),
        (
            "PASSERELLE_SEVER__PORT",
            "1",
            "gateway-a: PASSERELLE_SEVER__PORT is set in the environment, but is not a setting",
        ),
        ("PASSERELLE_SERVER__PORT", "x", "gateway-a: server.port holds 'x'"),
        ("PASSERELLE_CONFIG", "/etc/other.toml", "gateway-a: PASSERELLE_CONFIG names no mounted file."),
        ("VLLM_API_KEY", "", "gateway-a: targets.falcon.api_key_env holds 'VLLM_API_KEY', a variable that is not set"),
        ("PASSERELLE_PORT", "1", "gateway-a: PASSERELLE_PORT is not a setting"),
    ],
)
def test_a_setting_the_gateway_does_not_know_is_reported(key: str, value: str, sentence: str) -> None:
    document = unshared(load(BASE))
    for gateway in gateways(document).values():
        gateway["environment"][key] = value
    problem = settings(document, ROOT, SECRETS)[0]
    assert problem.startswith(sentence)


def test_two_gateways_that_differ_are_reported() -> None:
    document = unshared(load(BASE))
    document["services"]["gateway-b"] = document["services"]["gateway-b"] | {"command": ["gateway", "--workers", "2"]}
    assert settings(document, ROOT, SECRETS) == ["gateway-a, gateway-b: differ"]
