"""Where a GPU's memory goes, by vLLM's own arithmetic (v1/worker/gpu_worker.py, determine_available_memory).

    cache = memory × utilisation − weights − peak of a step − memory outside torch − CUDA graphs

The constants were fitted to what vLLM 0.24.0 wrote on one H100: docs/serving.md has the table.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from serving.model import Dimensions
from serving.quantisation import NONE, Quantisation

MIB, GIB = 1 << 20, 1 << 30

# The driver keeps this much of what it reports for itself: 81,559 MiB reported, 81,079 MiB free on an idle H100.
DRIVER_RESERVE = 480 * MIB
# One process's CUDA context, cuBLAS included, lies outside vLLM's share.
CONTEXT = 512 * MIB
# What stays free for growth after the start, and for a desktop where the card may draw one.
GROWTH, DESKTOP = 1 * GIB, 768 * MIB
# More gains nothing: on large cards the cache is ample.
LARGEST_UTILISATION = 0.95
# Outside torch's allocator: kernels' workspaces, and NCCL's buffers as soon as GPUs talk to each other (not measured).
OUTSIDE_TORCH, COMMUNICATION = 360 * MIB, 1 * GIB
# Tensors of a step that live at once: hidden states, and the feed-forward's (gated: up and gate together, then their product).
LIVE_HIDDEN, LIVE_GATED, LIVE_PLAIN = 2, 3, 1
# Copies of the sampler's float32 logits at its peak.
LIVE_LOGITS = 3
# One captured CUDA graph: 86 of them took 0.51 to 0.54 GiB, 30 took 0.18.
GRAPH = 6 * MIB


@dataclass(frozen=True)
class Layout:
    """How the model is cut: every layer over `tensor` GPUs, the layers over `pipeline` stages."""

    tensor: int = 1
    pipeline: int = 1

    @property
    def gpus(self) -> int:
        """GPUs in all."""
        return self.tensor * self.pipeline


@dataclass(frozen=True)
class Load:
    """What is to be held beside the weights: requests at once, tokens of a step, and adapters with their rank."""

    sequences: int
    batched_tokens: int
    adapters: int = 0
    rank: int = 0
    cache_type: str = "bfloat16"


@dataclass(frozen=True)
class Parts:
    """Bytes on the fullest GPU. `cache` is what is left for keys, values and states; negative when the rest does not fit."""

    weights: int
    adapters: int
    activations: int
    outside: int
    graphs: int
    cache: int
    left: int

    def named(self) -> dict[str, int]:
        """For a reader; the sum is the card's memory."""
        parts = {
            "weights": self.weights,
            "adapters": self.adapters,
            "activations": self.activations,
            "outside torch": self.outside,
            "CUDA graphs": self.graphs,
            "key/value cache": self.cache,
            "driver, context and reserve": self.left,
        }
        return {name: size for name, size in parts.items() if size}


def cuda_memory(reported: int) -> int:
    """What CUDA calls the card's memory, of which vLLM's share is taken, from what the driver reports."""
    return reported - DRIVER_RESERVE


def utilisation(reported: int, free: int, display: bool) -> float:
    """vLLM's share of the memory, in hundredths: all but a fixed reserve, and never more than is free now."""
    total = cuda_memory(reported)
    reserve = CONTEXT + GROWTH + (DESKTOP if display else 0)
    share = min(1 - reserve / total, (free - CONTEXT) / total, LARGEST_UTILISATION)
    return math.floor(share * 100) / 100


def weights_bytes(known: Dimensions, quantisation: Quantisation, layout: Layout) -> int:
    """Bytes of the weights on the fullest GPU.

    Embedding and head lie on the first and the last stage, both on the only one; norms are on every GPU of a stage.
    """
    if known.held is not None and quantisation is NONE:
        return known.held // layout.gpus
    heads = known.embeddings * (1 if known.tied or layout.pipeline > 1 else 2)
    layers = math.ceil(known.layers / layout.pipeline) / known.layers
    rest = known.parameters - known.matrices - known.embeddings * (1 if known.tied else 2)
    split = heads * 2 + layers * known.matrices * quantisation.bytes
    return round(split / layout.tensor + layers * rest * 2)


def adapters_bytes(known: Dimensions, layout: Layout, load: Load) -> int:
    """Bytes that vLLM reserves: for every adapter two thin matrices beside each matrix of a layer, in 16 bits."""
    query, kv = known.heads * known.head_size, known.kv_heads * known.head_size
    sides = 4 * known.hidden + 2 * query + 2 * kv + 3 * (known.hidden + known.widest)
    layers = math.ceil(known.layers / layout.pipeline)
    return 2 * load.adapters * load.rank * sides * layers // layout.tensor


def activations_bytes(known: Dimensions, layout: Layout, load: Load) -> int:
    """The peak of one step: its widest layer for all tokens, or the sampler's logits for all requests."""
    attention = (known.heads + 2 * known.kv_heads) * known.head_size
    state = known.mamba.inner + known.mamba.convolved + known.mamba.heads if known.mamba else 0
    feed_forward = known.widest * (LIVE_GATED if known.gated else LIVE_PLAIN)
    per_token = LIVE_HIDDEN * known.hidden + (attention + state + feed_forward) // layout.tensor
    return max(2 * load.batched_tokens * per_token, 4 * LIVE_LOGITS * load.sequences * known.vocabulary)


def graphs_bytes(sequences: int) -> int:
    """CUDA graphs: for steps with prompts up to twice the requests or 512, for steps without up to the requests."""
    return GRAPH * (_captured(min(2 * sequences, 512)) + _captured(min(sequences, 512)))


def _captured(largest: int) -> int:
    """Sizes vLLM captures (config/vllm.py, _set_cudagraph_sizes): 1, 2, 4, every 8 up to 256, then every 16."""
    return sum(size <= largest for size in (1, 2, 4)) + min(largest, 256) // 8 + max(0, largest - 256) // 16


def split(
    budget: tuple[int, float], known: Dimensions, quantisation: Quantisation, layout: Layout, load: Load
) -> Parts:
    """The parts on the fullest GPU; `budget` is the card's memory as reported, and vLLM's share of it."""
    reported, share = budget
    requested = math.ceil(cuda_memory(reported) * share)
    weights = weights_bytes(known, quantisation, layout)
    adapters = adapters_bytes(known, layout, load)
    activations = activations_bytes(known, layout, load)
    outside = OUTSIDE_TORCH + (COMMUNICATION if layout.gpus > 1 else 0)
    graphs = graphs_bytes(load.sequences)
    cache = requested - weights - adapters - activations - outside - graphs
    return Parts(weights, adapters, activations, outside, graphs, cache, reported - requested)


@dataclass(frozen=True)
class Cache:
    """What the key/value cache of one GPU holds, in whole pages as vLLM hands them out."""

    size: int
    page_tokens: int
    page_bytes: int
    hybrid: bool

    @property
    def pages(self) -> int:
        """Pages of all of the GPU's layers together."""
        return max(0, self.size // self.page_bytes)

    def pages_of(self, length: int) -> int:
        """Pages of a conversation of `length` tokens; in a hybrid one more holds its state."""
        return math.ceil(length / self.page_tokens) + (1 if self.hybrid else 0)

    def tokens(self, context: int) -> int:
        """As vLLM 0.24 writes it ("GPU KV cache size"): full conversations, broken ones too, times their length."""
        return self.pages * context // self.pages_of(context)

    def conversations(self, length: int) -> int:
        """Whole conversations of `length` tokens held at once."""
        return self.pages // self.pages_of(length)


def cache_of(known: Dimensions, layout: Layout, load: Load, size: int) -> Cache:
    """The cache in `size` bytes. Where GPUs outnumber the key/value heads, every GPU holds one."""
    layers = math.ceil(known.layers / layout.pipeline)
    kv_heads = max(1, known.kv_heads // layout.tensor)
    tokens = known.page_tokens(load.cache_type)
    per_token = known.kv_bytes_per_token(load.cache_type) // known.layers // known.kv_heads * kv_heads * layers
    return Cache(size, tokens, tokens * per_token, known.mamba is not None)
