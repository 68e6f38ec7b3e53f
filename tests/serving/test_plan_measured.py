"""What was measured on one H100 with vLLM 0.24.0, against what is predicted: within a tenth, except where said.

Random weights of full size; 256 tokens of prompt and 128 of answer. docs/serving.md says what was fitted to what.
"""

import pytest

from serving import memory
from serving.cards import find_card
from serving.memory import GIB, Layout, Load
from serving.model import Dimensions
from serving.profiles import find_profile
from serving.quantisation import FP8, NONE, Quantisation
from serving.throughput import Work, tokens_per_second

H100 = find_card("NVIDIA H100 80GB HBM3")


def known(model: str) -> Dimensions:
    found = find_profile(model).known
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("model", "quantisation", "share", "load", "measured"),
    [
        ("falcon-7b-instruct", NONE, 0.90, Load(256, 8192), (12.99, 56.98, 2048, 7_468_432)),
        ("falcon-7b-instruct", NONE, 0.90, Load(64, 16384), (12.99, 56.75, 2048, 7_438_864)),
        ("falcon-7b-instruct", FP8, 0.90, Load(256, 8192), (6.90, 62.97, 2048, 8_253_376)),
        ("falcon3-7b-instruct", NONE, 0.90, Load(256, 8192), (13.93, 55.83, 2048, 522_672)),
        ("falcon-h1-7b-instruct", NONE, 0.90, Load(256, 8192), (14.23, 55.07, 2048, 570_709)),
        ("falcon3-10b-instruct", NONE, 0.95, Load(256, 4096), (19.25, 54.95, 8192, 360_080)),
        ("falcon-40b-instruct", FP8, 0.95, Load(184, 2048), (39.0, 34.2, 2048, 298_816)),
    ],
)
def test_memory_was_measured_as_predicted(
    model: str, quantisation: Quantisation, share: float, load: Load, measured: tuple[float, float, int, int]
) -> None:
    weights, cache, context, tokens = measured
    parts = memory.split((H100.memory, share), known(model), quantisation, Layout(), load)
    predicted = memory.cache_of(known(model), Layout(), load, parts.cache)
    assert parts.weights / GIB == pytest.approx(weights, rel=0.03)
    assert parts.cache / GIB == pytest.approx(cache, rel=0.04)
    assert predicted.tokens(context) == pytest.approx(tokens, rel=0.04)


def test_a_cache_of_the_measured_size_holds_the_measured_tokens() -> None:
    """Without any constant: vLLM's own figures for the memory give its own figures for the tokens."""
    for model, size, tokens in [
        ("falcon-7b-instruct", 56.98, 7_468_432),
        ("falcon3-7b-instruct", 55.83, 522_672),
        ("falcon-h1-7b-instruct", 55.07, 570_709),
    ]:
        held = memory.cache_of(known(model), Layout(), Load(256, 8192), int(size * GIB))
        assert held.tokens(2048) == pytest.approx(tokens, rel=0.0005)


@pytest.mark.parametrize(
    ("model", "quantisation", "measured"),
    [
        # Requests at once: output tokens/s, and the share of prompts that the benchmark repeated and vLLM had cached.
        (
            "falcon-7b-instruct",
            NONE,
            {1: (156.7, 0), 16: (2313.5, 12 / 96), 64: (7275.5, 96 / 256), 256: (12_297, 0.25)},
        ),
        ("falcon-7b-instruct", NONE, {64: (5883.7, 0)}),
        (
            "falcon3-7b-instruct",
            NONE,
            {1: (162, 0), 16: (2240.3, 12 / 96), 64: (6784.1, 96 / 256), 256: (12_036, 0.25)},
        ),
        # In no fit: looked at when the constants stood.
        ("falcon3-10b-instruct", NONE, {1: (118.4, 1), 16: (1700.2, 1), 64: (4893.9, 96 / 256), 256: (8657.3, 0.25)}),
        ("falcon3-10b-instruct", NONE, {1: (115.7, 1), 64: (5927.6, 1)}),
        ("falcon-7b-instruct", FP8, {1: (218.6, 0), 256: (10_817, 12 / 1024)}),
        ("falcon-40b-instruct", FP8, {64: (2104.1, 0)}),
        ("falcon-h1-7b-instruct", NONE, {1: (107.3, 0), 64: (3386.0, 0), 256: (5115.8, 0)}),
    ],
)
def test_throughput_was_measured_as_predicted(
    model: str, quantisation: Quantisation, measured: dict[int, tuple[float, float]]
) -> None:
    work = Work(known(model), quantisation, Layout())
    for at_once, (rate, cached) in measured.items():
        assert tokens_per_second(H100, work, at_once, cached) == pytest.approx(rate, rel=0.10)
