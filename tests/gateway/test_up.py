"""What `passerelle up` tells the gateway of the models that it serves, and on which ports it serves them."""

import json
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

from gateway.commands.up import environment, model_ports
from gateway.settings import Settings
from serving.plan import Plan
from tests.gateway.test_commands import passerelle

FALLBACK = "gpt-3.5-turbo"


def plan(model: Path | str = "x", **fields: Any) -> Plan:
    made = Plan("p", "cpu", ("python",), {}, "127.0.0.1", 8001, str(model), "m", 2048, "Apache-2.0")
    return replace(made, **fields)


def told(*plans: Plan) -> Settings:
    """The settings of a gateway that is told nothing else."""
    tables = {name: json.loads(value) for name, value in environment(plans, 8000).items() if "__" not in name}
    targets, models = tables["PASSERELLE_TARGETS"], tables["PASSERELLE_MODELS"]
    for target in targets.values():
        del target["api_key_env"]
    return Settings.model_validate({"targets": targets, "models": models})


def tokenizer_of(model: Path | str) -> Path | None:
    targets = told(plan(model)).targets
    assert targets[FALLBACK].tokenizer is None
    return targets["local"].tokenizer


def test_a_model_s_own_tokenizer_counts_its_prompts_where_the_model_lies_here(tmp_path: Path) -> None:
    assert tokenizer_of(tmp_path) is None
    (tmp_path / "tokenizer.json").write_text("{}")
    assert tokenizer_of(tmp_path) == tmp_path / "tokenizer.json"
    assert tokenizer_of("tiiuae/falcon-7b-instruct") is None


def test_the_gateway_sends_each_replica_as_many_requests_as_it_computes_at_once() -> None:
    local = told(plan(sequences=32), plan(sequences=32, port=8002)).targets["local"]
    assert local.concurrency == 32
    assert [str(url) for url in local.urls] == ["http://127.0.0.1:8001/v1", "http://127.0.0.1:8002/v1"]


def test_an_adapter_is_a_model_like_its_base_on_the_same_replicas() -> None:
    settings = told(plan(adapters=("feedback", "acme/legal"), sequences=8), plan(port=8002))
    assert {name: model.targets for name, model in settings.models.items()} == {
        "m": ["local", FALLBACK],
        "feedback": ["local-feedback", FALLBACK],
        "acme/legal": ["local-acme/legal", FALLBACK],
    }
    base, adapter = settings.targets["local"], settings.targets["local-feedback"]
    assert adapter.model == "feedback"
    assert adapter == base.model_copy(update={"model": "feedback"})


def test_without_replicas_and_adapters_there_is_one_local_target_of_one_url() -> None:
    settings = told(plan())
    assert list(settings.targets) == ["local", FALLBACK]
    assert len(settings.targets["local"].urls) == 1


def test_the_default_ports_give_way_and_others_do_not() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert model_ports(port, 2, gateway=8000) == [port, port + 1]
    gateway = 8002
    default = model_ports(8001, 3, gateway=gateway)
    assert len({*default, gateway}) == 4


def test_no_replica_at_all_is_refused_in_one_sentence(tmp_path: Path) -> None:
    failed = passerelle("up", "--replicas", "0", PASSERELLE_STATE__DIRECTORY=str(tmp_path))
    assert (failed.returncode, failed.stdout) == (1, "")
    assert failed.stderr == "passerelle: --replicas holds 0, but must be 1 or more.\n"


def test_what_cannot_be_is_refused_before_a_model_is_started(tmp_path: Path) -> None:
    once = passerelle("up", "--once", PASSERELLE_STATE__DIRECTORY=str(tmp_path))
    assert (once.returncode, once.stdout) == (1, "")
    assert once.stderr == "passerelle: --once is for --demo, which asks one question, but --demo was not given.\n"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        refused = passerelle("up", "--gateway-port", port, PASSERELLE_STATE__DIRECTORY=str(tmp_path))
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr == f"passerelle: --gateway-port holds {port}, which cannot be had: Address already in use.\n"
