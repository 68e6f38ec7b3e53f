"""The ways to the model: vLLM itself, the gateway with its guards and without, LiteLLM's proxy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from loadtests.bench.sidebyside import rivals
from loadtests.bench.sidebyside.passerelle import passerelle
from loadtests.bench.sidebyside.servers import Contestant

NAMES = ("direct", "passerelle", "passerelle_off", "litellm")
USUAL = ("direct", "passerelle", "litellm")
# What the answers of random weights trip: they are in no language, and go in circles...
TRIPPED = ("language", "loops")
# ... and prompts of random tokens besides, of which one in twenty looks like an injection.
TRIPPED_BY_RANDOM = ("language", "injection", "loops")


def makers(
    folder: Path, vllm: str, model: str, *, annotating: Sequence[str], redis: str | None, litellm: Path
) -> Mapping[str, Callable[[], Contestant]]:
    """How each is started; `vllm` ends in /v1. LiteLLM's raises NotInstalled."""
    state = {"redis_url": redis, "redis_prefix": "passerelle-bench"} if redis else {}
    return {
        "direct": lambda: Contestant("direct", vllm.removesuffix("/v1")),
        "passerelle": lambda: passerelle(
            "passerelle", folder, vllm, on=True, state=state, model=model, annotating=annotating
        ),
        "passerelle_off": lambda: passerelle("passerelle_off", folder, vllm, on=False, state=state, model=model),
        "litellm": lambda: rivals.litellm(folder, vllm, model=model, program=litellm),
    }
