"""The names of vLLM's own metrics that rules and boards use, kept as a real server showed them."""

import urllib.request
from pathlib import Path

import pytest
from openai import OpenAI
from prometheus_client.parser import text_string_to_metric_families

from serving.server import ModelServer

RECORDED = Path(__file__).parent / "data" / "vllm-metrics.txt"


def described(text: str) -> list[str]:
    """Each sample's name and the names of its labels, once."""
    samples = (sample for family in text_string_to_metric_families(text) for sample in family.samples)
    return sorted({f"{sample.name} {' '.join(sorted(sample.labels))}".rstrip() for sample in samples})


@pytest.mark.vllm
@pytest.mark.timeout(400)
def test_a_real_vllm_shows_all_that_is_recorded(tiny_falcon_server: ModelServer) -> None:
    with OpenAI(base_url=tiny_falcon_server.base_url, api_key="none", max_retries=0) as client:
        question = [{"role": "user", "content": "Bonjour"}]
        client.chat.completions.create(model=tiny_falcon_server.served_name, messages=question, max_tokens=8)  # type: ignore[arg-type]
    with urllib.request.urlopen(f"{tiny_falcon_server.plan.url}/metrics", timeout=10) as answer:  # noqa: S310  # our own server
        shown = described(answer.read().decode())
    assert set(RECORDED.read_text(encoding="utf-8").splitlines()) <= {
        line for line in shown if line.startswith("vllm:")
    }
