"""What `passerelle up` tells the gateway of the model that it serves."""

import json
from pathlib import Path

from gateway.commands.up import environment
from serving.plan import Plan


def plan(model: Path | str) -> Plan:
    return Plan("p", "cpu", ("python",), {}, "127.0.0.1", 8001, str(model), "m", 2048, "Apache-2.0")


def tokenizer_of(model: Path | str) -> str | None:
    targets = json.loads(environment(plan(model), 8000)["PASSERELLE_TARGETS"])
    assert "tokenizer" not in targets["gpt-3.5-turbo"]
    found: str | None = targets["local"].get("tokenizer")
    return found


def test_a_model_s_own_tokenizer_counts_its_prompts_where_the_model_lies_here(tmp_path: Path) -> None:
    assert tokenizer_of(tmp_path) is None
    (tmp_path / "tokenizer.json").write_text("{}")
    assert tokenizer_of(tmp_path) == str(tmp_path / "tokenizer.json")
    assert tokenizer_of("tiiuae/falcon-7b-instruct") is None
