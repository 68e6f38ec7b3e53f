"""Expected output tokens per second: a roofline of memory and arithmetic, softened where both matter.

A step of vLLM carries one output token of every conversation and, on average, their share of prompts. It reads the weights
and the cache once (`memory`) and multiplies every token with every weight (`arithmetic`):

    seconds of a step = (memory^P + arithmetic^P)^(1/P) + overhead

The roofline is Williams, Waterman and Patterson's (doi 10.1145/1498765.1498785), P = ∞ theirs and P = 1 no overlap at all.
The constants were fitted to vLLM 0.24.0 on one H100: docs/serving.md says to which runs, and how far off the others were.
"""

from __future__ import annotations

from dataclasses import dataclass

from serving.cards import Card
from serving.memory import Layout
from serving.model import Dimensions
from serving.quantisation import BITSANDBYTES, FP8, Quantisation

# What the measured runs were asked.
PROMPT, OUTPUT = 256, 128
AT_ONCE = (1, 16, 64, 256)

# Shares of the data sheet's bandwidth and operations, P, and seconds a step takes however small the model is.
MEMORY_EFFICIENCY, ARITHMETIC_EFFICIENCY = 0.86, 0.64
SOFTNESS = 1.1
OVERHEAD = 0.0017
# In FP8 every step first quantises its activations. Its arithmetic is faster than 16 bits' by the first factor where the rows
# fill the kernels' tiles of FP8_TILE (Falcon-40B), and slower by the second where they do not (Falcon-7B's 4,544).
FP8_OVERHEAD, FP8_TILE, FP8_FULL, FP8_BROKEN = 0.0003, 128, 1.7, 0.85
# Falcon-H1's state-space kernels are not tuned for any card ("Performance might be sub-optimal", vLLM says): seconds of a
# step, and the share of the bandwidth at which they read and write a conversation's state.
HYBRID_OVERHEAD, STATE_EFFICIENCY = 0.0020, 0.46
# Not measured: another GPU in a layer costs a tenth for its all-reduces; bitsandbytes unpacks its 4 bits in every step.
TENSOR_EFFICIENCY = 0.9
BITSANDBYTES_SLOWDOWN = 2.0
# What lies above was never seen: there the one process that writes the answers may decide, not the GPU.
MOST_MEASURED = 12_297


@dataclass(frozen=True)
class Work:
    """A model as it runs: its weights' bits, its layout, and the bytes of cache that one token of context takes."""

    known: Dimensions
    quantisation: Quantisation
    layout: Layout
    cache_type: str = "bfloat16"


def tokens_per_second(card: Card, work: Work, at_once: int, cached: float = 0.0) -> float:
    """Output tokens per second of `at_once` conversations, PROMPT tokens each answered with OUTPUT.

    `cached` is the share of prompt tokens that vLLM's prefix cache already holds.
    """
    return at_once / step_seconds(card, work, at_once, cached)


def step_seconds(card: Card, work: Work, at_once: int, cached: float = 0.0) -> float:
    """Seconds in which every conversation gets one token. Stages of a pipeline each work on their own part of them."""
    together = max(1.0, at_once / work.layout.pipeline)
    memory = _bytes_read(work, together, PROMPT + OUTPUT / 2) / (card.bandwidth * MEMORY_EFFICIENCY * _speed(work))
    arithmetic = prefill_seconds(card, work, together * (1 + PROMPT * (1 - cached) / OUTPUT))
    seconds = float((memory**SOFTNESS + arithmetic**SOFTNESS) ** (1 / SOFTNESS))
    slowdown = BITSANDBYTES_SLOWDOWN if work.quantisation is BITSANDBYTES else 1.0
    overhead = OVERHEAD + (FP8_OVERHEAD if work.quantisation is FP8 else 0.0)
    return seconds * slowdown + _state_seconds(card, work, together) + overhead


def prefill_seconds(card: Card, work: Work, tokens: float) -> float:
    """Seconds of arithmetic for `tokens`, prompts' or answers'."""
    efficiency = ARITHMETIC_EFFICIENCY
    if work.quantisation is FP8 and card.fp8_flops:
        efficiency *= FP8_BROKEN if work.known.hidden % FP8_TILE else FP8_FULL
    return 2 * _multiplied(work.known) * tokens / (card.flops * efficiency * _speed(work))


def _speed(work: Work) -> float:
    """How many times one GPU's bandwidth and arithmetic a layer has."""
    doublings = work.layout.tensor.bit_length() - 1
    return float(work.layout.tensor * TENSOR_EFFICIENCY**doublings)


def _state_seconds(card: Card, work: Work, at_once: float) -> float:
    """A hybrid's: every conversation's state is read and written, in every layer."""
    mamba = work.known.mamba
    if mamba is None:
        return 0.0
    moved = at_once * 2 * work.known.layers * mamba.state_bytes("bfloat16")
    return HYBRID_OVERHEAD + moved / (card.bandwidth * STATE_EFFICIENCY * _speed(work))


def _multiplied(known: Dimensions) -> int:
    """Parameters every token is multiplied with: the layers' matrices and the output head."""
    return known.matrices + known.embeddings


def _bytes_read(work: Work, at_once: float, length: float) -> float:
    """Of one step: the matrices, the head, and every conversation's cache."""
    held = work.known.held or work.known.matrices * work.quantisation.bytes + work.known.embeddings * 2
    return held + at_once * length * work.known.kv_bytes_per_token(work.cache_type)
