"""Every card × every model, against memory worked out by hand: here numbers and their sums, never the planner's own code."""

import math
from dataclasses import dataclass
from pathlib import Path

import pytest

from serving.cards import load_cards
from serving.hardware import Gpu, Machine
from serving.plan import Options, Plan, PlanError, make_plan
from serving.profiles import find_profile, profile_names

MIB, GIB = 1 << 20, 1 << 30
CAPABILITIES = {"T4": (7, 5), "V100 16GB": (7, 0), "V100 32GB": (7, 0), "A100 40GB": (8, 0), "A100 80GB": (8, 0)}

# MiB as the driver reports them, and vLLM's share of all but 480 of them. What is left over is 1.5 GiB for context and
# growth, 0.75 GiB more on cards that may draw a desktop, rounded up to the next hundredth, and a twentieth at least:
# RTX A4500: 1 - 2304 / 19990 = 0.8847; L4: 1 - 1536 / 22554 = 0.9319; H100: 1 - 1536 / 81079 = 0.981, so 0.95.
CARDS = {
    "RTX A4500": (20470, 0.88),
    "RTX 3090": (24576, 0.90),
    "RTX 4090": (24564, 0.90),
    "RTX 6000 Ada": (49140, 0.95),
    "T4": (15360, 0.89),
    "V100 16GB": (16384, None),
    "V100 32GB": (32768, None),
    "L4": (23034, 0.93),
    "A10": (23028, 0.93),
    "A10G": (23028, 0.93),
    "L40S": (46068, 0.95),
    "A100 40GB": (40960, 0.95),
    "A100 80GB": (81920, 0.95),
    "H100": (81559, 0.95),
    "H100 PCIe": (81559, 0.95),
    "H100 NVL": (95830, 0.95),
    "H200": (143771, 0.95),
    "B200": (183359, 0.95),
}


@dataclass(frozen=True)
class Model:
    """Parameters in the layers' matrices and elsewhere (embeddings, head, norms), bytes of keys and values of a token, the
    elements of a step's widest layer a token, the vocabulary, and the context."""

    matrices: int
    rest: int
    token: int
    widest: int
    vocabulary: int
    context: int


MODELS = {
    # 30 layers: queries and output 576², keys and values 576 × 192, three of 576 × 1536; one embedding; 61 norms
    "smollm2-135m-instruct": Model(
        30 * 3_538_944, 49152 * 576 + 61 * 576, 30 * 3 * 64 * 4, 2 * 576 + 15 * 64 + 3 * 1536, 49152, 2048
    ),
    # 18 layers: 640 × 1024 twice, 640 × 256 twice, three of 640 × 2048; 73 norms of 640 and 36 of 256
    "gemma-3-270m": Model(
        18 * 5_570_560, 262144 * 640 + 73 * 640 + 36 * 256, 18 * 256 * 4, 2 * 640 + 6 * 256 + 3 * 2048, 262144, 2048
    ),
    # 18 layers: 2048² twice, 2048 × 1024 twice, three of 2048 × 8192; embedding and head; 37 norms
    "falcon3-1b-instruct": Model(
        18 * 62_914_560, 2 * 131072 * 2048 + 37 * 2048, 18 * 1024 * 4, 2 * 2048 + 16 * 256 + 3 * 8192, 131072, 4096
    ),
    # 22 layers: 3072² twice, 3072 × 1024 twice, three of 3072 × 9216; 45 norms
    "falcon3-3b-instruct": Model(
        22 * 110_100_480, 2 * 131072 * 3072 + 45 * 3072, 22 * 1024 * 4, 2 * 3072 + 20 * 256 + 3 * 9216, 131072, 8192
    ),
    # 28 and 40 layers: 3072² twice, 3072 × 1024 twice, three of 3072 × 23040
    "falcon3-7b-instruct": Model(
        28 * 237_502_464, 2 * 131072 * 3072 + 57 * 3072, 28 * 1024 * 4, 2 * 3072 + 20 * 256 + 3 * 23040, 131072, 8192
    ),
    "falcon3-10b-instruct": Model(
        40 * 237_502_464, 2 * 131072 * 3072 + 81 * 3072, 40 * 1024 * 4, 2 * 3072 + 20 * 256 + 3 * 23040, 131072, 8192
    ),
    # 32 layers: 4544 × 4672, 4544², twice 4544 × 18176; one embedding; 33 norms with scale and shift; one key/value head
    "falcon-7b-instruct": Model(
        32 * 207_060_992, 65024 * 4544 + 33 * 2 * 4544, 32 * 64 * 4, 2 * 4544 + 73 * 64 + 18176, 65024, 2048
    ),
    # 60 layers: 8192 × 9216, 8192², twice 8192 × 32768; 121 norms; eight key/value heads
    "falcon-40b-instruct": Model(
        60 * 679_477_248, 65024 * 8192 + 121 * 2 * 8192, 60 * 512 * 4, 2 * 8192 + 144 * 64 + 32768, 65024, 2048
    ),
    # 44 layers: 3072 × 1536 twice, 3072 × 256 twice, three of 3072 × 12288, 3072 × 6680, 3072²; convolutions, A, D, steps
    "falcon-h1-7b-instruct": Model(
        44 * 154_214_400,
        2 * 130048 * 3072 + 89 * 3072 + 44 * (3584 * 5 + 72),
        44 * 256 * 4,
        2 * 3072 + 16 * 128 + 6680 + 3 * 12288,
        130048,
        8192,
    ),
}

# Bytes a quantised weight takes: 4 bits with a scale of 8.127/64 bits, or 20 bits for every 128.
BYTES = {"16 bits": 2.0, "fp8": 1.0, "awq": 0.51953125, "bitsandbytes": 0.515875}

# How each model is held, 16 bits unless said; None is a refusal.
WAYS: dict[tuple[str, str], str | None] = {
    ("T4", "falcon-7b-instruct"): "fp8",
    ("T4", "falcon3-7b-instruct"): "fp8",
    ("T4", "falcon-h1-7b-instruct"): "fp8",
    ("T4", "falcon3-10b-instruct"): "awq",
    ("RTX A4500", "falcon3-7b-instruct"): "fp8",
    ("RTX A4500", "falcon3-10b-instruct"): "fp8",
    ("A100 40GB", "falcon-40b-instruct"): "bitsandbytes",
    **{(card, "falcon3-10b-instruct"): "fp8" for card in ("RTX 3090", "RTX 4090", "L4", "A10", "A10G")},
    **{
        (card, "falcon-40b-instruct"): None for card in ("T4", "RTX A4500", "RTX 3090", "RTX 4090", "L4", "A10", "A10G")
    },
    **{(card, "falcon-40b-instruct"): "fp8" for card in ("L40S", "RTX 6000 Ada", "A100 80GB", "H100", "H100 PCIe")},
    **{(card, model): None for card in ("V100 16GB", "V100 32GB") for model in MODELS},
}


def machine(name: str) -> Machine:
    reported = CARDS[name][0]
    capability = CAPABILITIES.get(name) or next(card.capability for card in load_cards() if card.name == name)
    return Machine(16, 0, 0, gpus=(Gpu(name, reported * MIB, (reported - 480) * MIB, capability),))


def plan(card: str, model: str) -> Plan:
    return make_plan(machine(card), find_profile(model), Options(), Path("python"), model)


def value(made: Plan, name: str) -> str | None:
    return next((setting.value for setting in made.settings if setting.name == name), None)


def held(made: Plan) -> str:
    quantisation = (value(made, "--quantization") or "").removesuffix("_per_tensor")
    assert (quantisation == "awq") == made.model.endswith("-AWQ")
    return "16 bits" if quantisation == "none" else quantisation


def weights(model: Model, way: str) -> int:
    return round(model.matrices * BYTES[way] + model.rest * 2)


def others(model: Model, batched: int, sequences: int) -> tuple[int, int]:
    """Bytes of a step's activations, and of CUDA graphs: 6 MiB each, for 1, 2, 4, every 8 up to 256 and every 16 to 512."""
    activations = max(batched * model.widest * 2, sequences * model.vocabulary * 4 * 3)
    mixed, decode = min(2 * sequences, 512), sequences
    graphs = 3 + min(mixed, 256) // 8 + max(0, mixed - 256) // 16 + 3 + decode // 8
    return activations, graphs * 6 * MIB


def requested(card: str) -> int:
    """vLLM's share in bytes."""
    reported, share = CARDS[card]
    assert share is not None
    return math.ceil((reported - 480) * MIB * share)


def test_the_tables_are_complete() -> None:
    assert {card.name for card in load_cards()} == set(CARDS)
    assert set(profile_names()) == set(MODELS)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("card", CARDS)
def test_memory_is_as_worked_out_by_hand(card: str, model: str) -> None:
    way, known = WAYS.get((card, model), "16 bits"), MODELS[model]
    if way is None:
        with pytest.raises(PlanError, match=r"does not fit|compute capability 7\.0") as refused:
            plan(card, model)
        assert "nearest that fits" in str(refused.value)
        return
    made = plan(card, model)
    assert held(made) == way
    assert value(made, "--gpu-memory-utilization") == f"{CARDS[card][1]:.2f}"
    activations, graphs = others(known, int(value(made, "--max-num-batched-tokens") or 0), made.sequences)
    expected = {
        "weights": weights(known, way),
        "activations": activations,
        "outside torch": 360 * MIB,
        "CUDA graphs": graphs,
        "key/value cache": requested(card) - weights(known, way) - activations - 360 * MIB - graphs,
        "driver, context and reserve": CARDS[card][0] * MIB - requested(card),
    }
    assert made.memory == expected
    assert sum(made.memory.values()) == CARDS[card][0] * MIB
    assert made.expected.kv_tokens == tokens(model, expected["key/value cache"])
    assert made.sequences <= made.expected.conversations[1000]
    assert made.expected.conversations[known.context] >= 4


def tokens(model: str, cache: int) -> int:
    """Full conversations and what is left of one, as vLLM counts: pages of 16 tokens.

    Falcon-H1's hold 1,568, and a conversation of 8,192 takes six of them and one for its state.
    """
    if model == "falcon-h1-7b-instruct":
        return cache // (1568 * MODELS[model].token) * 8192 // 7
    return cache // (16 * MODELS[model].token) * 16


LESS_LOSSY = [(pair, way) for pair, way in WAYS.items() if pair[0][0] != "V" and way != "16 bits"]


@pytest.mark.parametrize(("pair", "way"), LESS_LOSSY)
def test_what_loses_less_does_not_fit(pair: tuple[str, str], way: str | None) -> None:
    card, model = pair
    known = MODELS[model]
    tried = list(BYTES) if way is None else list(BYTES)[: list(BYTES).index(way)]
    activations, graphs = others(known, 2048, 256)
    for worse in tried:
        if worse == "awq" and not find_profile(model).awq:
            continue
        cache = requested(card) - weights(known, worse) - activations - 360 * MIB - graphs
        pages = (known.context // 1568 + 2) * 1568 if model == "falcon-h1-7b-instruct" else known.context
        assert cache < 4 * pages * known.token
