"""The plan for NVIDIA GPUs: how the model is cut and quantised, and what that leaves for conversations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from serving import memory, throughput
from serving.adapters import largest_rank
from serving.cards import Card, match_card
from serving.hardware import Gpu
from serving.memory import Cache, Layout, Load, Parts
from serving.model import Dimensions
from serving.profiles import Profile
from serving.quantisation import (
    ALL,
    AWQ,
    BFLOAT16_CAPABILITY,
    FP8,
    FP8_CAPABILITY,
    NONE,
    OLDEST_CAPABILITY,
    Quantisation,
)
from serving.setting import Options, PlanError, gib
from serving.throughput import Work

# An ordinary conversation in tokens; what a user must always find room for is `FULL_CONVERSATIONS` of the longest.
EXPECTED_LENGTH, FULL_CONVERSATIONS = 1000, 4
# Nobody was served more at once in what was measured, and slower than reading speed is no chat.
MOST_SEQUENCES, SLOWEST = 256, 10.0
BATCHED_TOKENS, LONGEST_STEP = (8192, 4096, 2048), 0.25


@dataclass(frozen=True)
class Cards:
    """The GPUs of every node: `number` alike on each, as the weakest of them is. `card` is None where the table lacks it."""

    gpu: Gpu
    number: int
    nodes: int
    share: float
    card: Card | None

    @property
    def gpus(self) -> int:
        """GPUs in all."""
        return self.number * self.nodes

    @property
    def too_old(self) -> bool:
        """True when vLLM's wheels hold no code for the card."""
        return self.gpu.capability < OLDEST_CAPABILITY

    @property
    def dtype(self) -> str:
        """The 16-bit type the card computes."""
        return "bfloat16" if self.gpu.capability >= BFLOAT16_CAPABILITY else "float16"


@dataclass(frozen=True)
class Choice:
    """How a model is served on cards, and what it costs there."""

    cards: Cards
    quantisation: Quantisation
    layout: Layout
    load: Load
    parts: Parts
    cache: Cache


def read_cards(gpus: tuple[Gpu, ...], options: Options) -> Cards:
    """The cards as the plan sees them. Raises PlanError when others use their memory."""
    weakest = min(gpus, key=lambda gpu: gpu.free)
    gpu = replace(weakest, capability=min(gpu.capability for gpu in gpus))
    card = match_card(gpu.name)
    most = memory.utilisation(gpu.memory, gpu.free, card.display if card else True)
    share = options.gpu_memory_utilization or most
    free = (gpu.free - memory.CONTEXT) / memory.cuda_memory(gpu.memory)
    if most < 0.05 or share > free:
        raise PlanError(
            f"{gpu.name}: {gib(gpu.free)} of {gib(gpu.memory)} are free, "
            f"--gpu-memory-utilization {max(share, 0):.2f} is not there: close what uses the GPU, or ask for less"
        )
    return Cards(gpu, len(gpus), options.nodes, share, card)


def choose(cards: Cards, profile: Profile, known: Dimensions, context: int, options: Options) -> Choice | None:
    """The least lossy way that fits, on the fewest GPUs; None when none does."""
    for quantisation, cache_type in ways(cards, profile, known, options):
        for layout in layouts(cards, known, options):
            choice = weigh(cards, known, quantisation, layout, (context, cache_type), options)
            if choice.cache.conversations(context) >= FULL_CONVERSATIONS:
                return choice
    return None


def weigh(
    cards: Cards,
    known: Dimensions,
    quantisation: Quantisation,
    layout: Layout,
    length: tuple[int, str],
    options: Options,
) -> Choice:
    """What one way of serving costs; `length` is the context with the cache's type."""
    context, cache_type = length
    work = Work(known, quantisation, layout, cache_type)
    rank = largest_rank(options.adapters) if options.adapters else 0
    sequences = options.max_num_seqs or MOST_SEQUENCES
    load = Load(sequences, _batched_tokens(cards, work, options), len(options.adapters), rank, cache_type)
    budget = (cards.gpu.memory, cards.share)
    parts = memory.split(budget, known, quantisation, layout, load)
    cache = memory.cache_of(known, layout, load, parts.cache)
    fewer = _sequences(cards, work, cache, context, options)
    if fewer < sequences:
        load = replace(load, sequences=fewer)
        parts = memory.split(budget, known, quantisation, layout, load)
        cache = memory.cache_of(known, layout, load, parts.cache)
    return Choice(cards, quantisation, layout, load, parts, cache)


def ways(cards: Cards, profile: Profile, known: Dimensions, options: Options) -> Iterator[tuple[Quantisation, str]]:
    """Quantisations with the cache's type, the least lossy first, as far as card, model and user allow them."""
    for quantisation in () if cards.too_old else ALL:
        if options.quantization not in {None, quantisation.name}:
            continue
        if quantisation is AWQ and not profile.awq:
            continue
        if quantisation is not NONE and known.held is not None:
            continue
        yield quantisation, cards.dtype
        if quantisation is FP8 and known.fp8_cache and cards.gpu.capability >= FP8_CAPABILITY:
            yield quantisation, "fp8"


def layouts(cards: Cards, known: Dimensions, options: Options) -> Iterator[Layout]:
    """Cuts in the order they are tried: over heads on the fewest GPUs, then also over layers, then over whole nodes."""
    one = range(1, cards.number + 1)
    several = [(cards.number, cards.number * nodes) for nodes in range(2, cards.nodes + 1)]
    heads = [Layout(tensor, 1) for tensor in one]
    layers = [Layout(tensor, gpus // tensor) for gpus in one for tensor in range(gpus - 1, 0, -1) if gpus % tensor == 0]
    nodes = [
        Layout(tensor, gpus // tensor) for most, gpus in several for tensor in range(most, 0, -1) if most % tensor == 0
    ]
    for layout in (*heads, *layers, *nodes):
        wished = options.tensor_parallel_size in {None, layout.tensor}
        wished = wished and options.pipeline_parallel_size in {None, layout.pipeline}
        if wished and layout.pipeline <= known.layers and splits(known, layout.tensor):
            yield layout


def splits(known: Dimensions, tensor: int) -> bool:
    """May a layer be cut in `tensor`? It must divide the query heads, and divide the key/value heads or be their multiple."""
    heads = known.heads % tensor == 0 and (known.mamba is None or known.mamba.heads % tensor == 0)
    groups = known.mamba is None or known.mamba.groups == 1 or known.mamba.groups % tensor == 0
    return heads and groups and (known.kv_heads % tensor == 0 or tensor % known.kv_heads == 0)


def spans_nodes(cards: Cards, layout: Layout) -> bool:
    """True when one node's GPUs are too few."""
    return layout.gpus > cards.number


def _batched_tokens(cards: Cards, work: Work, options: Options) -> int:
    """The most tokens a step may carry so that it is not longer than LONGEST_STEP, which every answer then waits."""
    if options.max_num_batched_tokens is not None:
        return options.max_num_batched_tokens
    least = max(BATCHED_TOKENS[-1], options.max_num_seqs or 0)  # vLLM wants a token for every request at least
    if cards.card is None:
        return least
    card = cards.card
    return next(
        (
            tokens
            for tokens in BATCHED_TOKENS
            if tokens >= least and throughput.prefill_seconds(card, work, tokens) <= LONGEST_STEP
        ),
        least,
    )


def _sequences(cards: Cards, work: Work, cache: Cache, context: int, options: Options) -> int:
    """Conversations at once: as many as the cache holds of ordinary length, and as the card answers at reading speed."""
    if options.max_num_seqs is not None:
        return options.max_num_seqs
    held = min(MOST_SEQUENCES, cache.conversations(min(EXPECTED_LENGTH, context)))
    if cards.card is not None:
        while held > 8 and too_slow(cards.card, work, held):
            held -= 8
    return held // 8 * 8 if held >= 8 else max(1, held)


def too_slow(card: Card, work: Work, number: int) -> bool:
    """True when so many conversations at once are each answered slower than one reads."""
    return 1 / throughput.step_seconds(card, work, number) < SLOWEST


def rates(choice: Choice, known: Dimensions) -> dict[int, float]:
    """Output tokens per second by conversations at once; empty for a card that is not in the table."""
    if choice.cards.card is None:
        return {}
    work = Work(known, choice.quantisation, choice.layout, choice.load.cache_type)
    card = choice.cards.card
    most = choice.load.sequences
    return {number: throughput.tokens_per_second(card, work, min(number, most)) for number in throughput.AT_ONCE}
