"""The tables of the guards: who differs from everybody, and what is wrong with them."""

from pathlib import Path

import pytest

from gateway.guard_settings import Guards as GuardSettings
from gateway.guardrails.guards import Guards
from gateway.settings import BadSettings, load

TABLES = """
[targets.local]
kind = "vllm"
urls = ["http://127.0.0.1:1/v1"]
model = "m"
[targets.gpt]
kind = "openai"
urls = ["http://127.0.0.1:1/v1"]
model = "gpt"
[models.m]
targets = ["local"]
"""


def test_a_model_s_own_word_is_stronger_than_everybody_s_and_a_tenant_s_is_the_last() -> None:
    settings = GuardSettings.model_validate(
        {
            "language": {"mode": "annotate", "hold_characters": 300},
            "models": {"m": {"language": {"mode": "off"}, "loops": {"mode": "off"}}},
            "tenants": {"acme": {"language": {"mode": "enforce"}}},
        }
    )
    guards = Guards(settings)
    modes = {
        (tenant, model): guards.of(tenant, model).mode("language")
        for tenant in ("acme", "other")
        for model in ("m", "n")
    }
    assert modes == {
        ("acme", "m"): "enforce",
        ("acme", "n"): "enforce",
        ("other", "m"): "off",
        ("other", "n"): "annotate",
    }
    both = guards.of("acme", "m").tables
    assert (both.language.hold_characters, both.loops.mode) == (300, "off")


def test_rules_are_built_once_for_all_names_that_the_configuration_does_not_know() -> None:
    guards = Guards(GuardSettings())
    assert guards.of("a", "b") is guards.of("c", "d")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (
            "[guards.models.x.language]\nmode = 'off'",
            "guards.models holds 'x', which is no published model (allowed: m)",
        ),
        ("[guards.moderation]\njudge = 'x'", "guards.moderation.judge holds 'x', which is no target of the kind vllm"),
        ("[guards.moderation]\njudge = 'gpt'", "guards.moderation.judge holds 'gpt', which is no target of the kind"),
        (
            "[guards.tenants.acme.moderation]\njudge = 'gpt'",
            "guards.tenants.acme.moderation.judge holds 'gpt', which is no target of the kind vllm (allowed: local)",
        ),
        (
            "[guards.moderation]\nthreshold = 0.5\ngrey = 0.6",
            "guards.moderation.grey holds 0.6, which is over its threshold, 0.5",
        ),
        (
            "[guards.personal_data]\nown = 'pseudonymise'",
            "guards.personal_data.own holds 'pseudonymise', but input should",
        ),
        (
            "[guards.language]\nrepairs = 3",
            "guards.language.repairs holds 3, but input should be less than or equal to 2",
        ),
        (
            "[guards.leaks]\ncanaries = ['abc']",
            "guards.leaks.canaries.0 holds 'abc', but string should have at least 8",
        ),
        ("[guards.injection]\nthreshold = 2", "guards.injection.threshold holds 2, but input should be less than"),
        ("[guards.tenants.acme.injection]\nmod = 'off'", "guards.tenants.acme.injection.mod is not a setting"),
        ("[targets.local.steering]\nbias = 3", "targets.local.steering.bias holds 3, but input should be less than"),
    ],
)
def test_what_is_wrong_is_told_in_one_sentence(tmp_path: Path, content: str, sentence: str) -> None:
    path = tmp_path / "passerelle.toml"
    path.write_text(TABLES + content, encoding="utf-8")
    with pytest.raises(BadSettings) as caught:
        load(path)
    assert str(caught.value).startswith(sentence)
