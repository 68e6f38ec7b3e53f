"""What a refusal names: the nearest thing that fits, found by planning it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from serving import memory, profiles
from serving.cards import Card, load_cards
from serving.gpu import FULL_CONVERSATIONS, Cards, Choice, choose, layouts, ways, weigh
from serving.hardware import Gpu
from serving.model import Dimensions
from serving.profiles import Profile
from serving.quantisation import NONE, OLDEST_CAPABILITY
from serving.setting import Options, PlanError, gib

# Contexts are tried in these steps; machines hold up to eight GPUs.
STEP, SHORTEST, MOST_GPUS = 256, 512, 8


def machine_of(card: Card, number: int = 1, nodes: int = 1, share: float | None = None) -> Cards:
    """Idle cards of the table."""
    free = memory.cuda_memory(card.memory)
    most = share or memory.utilisation(card.memory, free, card.display)
    return Cards(Gpu(card.name, card.memory, free, card.capability), number, nodes, most, card)


def refusal(cards: Cards, profile: Profile, known: Dimensions, context: int, options: Options) -> PlanError:
    """Why the model does not fit the cards, and what would."""
    found = "; ".join(nearest(cards, profile, known, context, options))
    why = _lacking(cards, profile, known, context, options)
    return PlanError(f"{why}; nearest that fits: {found or 'nothing we know; choose a smaller --model, or --cpu'}")


def old(cards: Cards) -> str:
    """Why a card is of no use."""
    major, minor = cards.gpu.capability
    oldest = ".".join(map(str, OLDEST_CAPABILITY))
    return (
        f"{cards.gpu.name} has compute capability {major}.{minor}, and vLLM's wheels hold code for {oldest} and newer"
    )


def nearest(cards: Cards, profile: Profile, known: Dimensions, context: int, options: Options) -> Iterator[str]:
    """Each alternative as a clause, the nearest first: a shorter context, other settings, other cards, another model."""
    free = replace(options, quantization=None, tensor_parallel_size=None, pipeline_parallel_size=None)
    shorter = _shorter(cards, profile, known, context, options)
    if shorter:
        yield f"--max-model-len {shorter[0]} here ({described(shorter[1])})"
    own = _unbound(cards, profile, known, context, free, options)
    if own:
        yield f"here without {_bound(options)} ({described(own)})"
    if shorter or own:
        return
    larger, alone = _larger(cards, profile, known, context, free), _smallest(profile, known, context, free)
    if larger:
        yield f"{larger.layout.gpus} × {larger.cards.gpu.name} ({described(larger)})"
    if alone:
        yield f"one {alone.cards.gpu.name} ({described(alone)})"
    other = _other(cards, profile, free)
    if other:
        yield f"--model {other} here"


def described(choice: Choice) -> str:
    """A choice in a few words."""
    held = "16 bits" if choice.quantisation is NONE else choice.quantisation.name
    tensor = f", tensor parallel {choice.layout.tensor}" if choice.layout.tensor > 1 else ""
    return held + tensor + (f", pipeline parallel {choice.layout.pipeline}" if choice.layout.pipeline > 1 else "")


def _lacking(cards: Cards, profile: Profile, known: Dimensions, context: int, options: Options) -> str:
    cuts = list(layouts(cards, known, options))
    allowed = list(ways(cards, profile, known, options))
    if not cuts and not cards.too_old:
        return (
            f"--tensor-parallel-size {options.tensor_parallel_size or 'any'} with --pipeline-parallel-size "
            f"{options.pipeline_parallel_size or 'any'} is no cut of {profile.name} ({known.heads} heads, {known.kv_heads} for "
            f"keys and values, {known.layers} layers) over {cards.gpus} × {cards.gpu.name}"
        )
    if cards.too_old:
        return old(cards)
    if not allowed:
        why = "is quantised already" if known.held else "has no such checkpoint"
        return f"--quantization {options.quantization}: {profile.name} {why}"
    quantisation, cache_type = allowed[-1]
    tried = [weigh(cards, known, quantisation, cut, (context, cache_type), options) for cut in cuts]
    best = min(tried, key=lambda way: way.parts.weights)
    room = max(0, best.parts.weights + best.parts.cache)
    return (
        f"{profile.name} does not fit {cards.gpus} × {cards.gpu.name}: even with {described(best)} its weights need "
        f"{gib(best.parts.weights)} a GPU, where {gib(room)} are left for them and {FULL_CONVERSATIONS} conversations of "
        f"{context} tokens"
    )


def _shorter(
    cards: Cards, profile: Profile, known: Dimensions, context: int, options: Options
) -> tuple[int, Choice] | None:
    """The longest context that fits, with its choice."""
    low, high, found = SHORTEST // STEP, (context - 1) // STEP, None
    while low <= high:
        middle = (low + high) // 2
        choice = choose(cards, profile, known, middle * STEP, options)
        if choice:
            found, low = (middle * STEP, choice), middle + 1
        else:
            high = middle - 1
    return found


def _unbound(
    cards: Cards, profile: Profile, known: Dimensions, context: int, free: Options, options: Options
) -> Choice | None:
    """These cards, where options that a plan would decide itself are what keeps the model off them."""
    free = replace(free, gpu_memory_utilization=None)
    if free == options:
        return None
    most = memory.utilisation(cards.gpu.memory, cards.gpu.free, cards.card.display if cards.card else True)
    return choose(replace(cards, share=most), profile, known, context, free)


def _bound(options: Options) -> str:
    """The options that `_unbound` leaves out, as they are written."""
    given = ("quantization", "tensor_parallel_size", "pipeline_parallel_size", "gpu_memory_utilization")
    return " and ".join(f"--{name.replace('_', '-')}" for name in given if getattr(options, name) is not None)


def _larger(cards: Cards, profile: Profile, known: Dimensions, context: int, options: Options) -> Choice | None:
    """More of the same cards in one machine."""
    for number in range(cards.gpus + 1, MOST_GPUS + 1):
        choice = choose(replace(cards, number=number, nodes=1), profile, known, context, options)
        if choice:
            return choice
    return None


def _smallest(profile: Profile, known: Dimensions, context: int, options: Options) -> Choice | None:
    """The card with the least memory that alone holds it."""
    for card in sorted(load_cards(), key=lambda card: card.memory):
        if card.capability >= OLDEST_CAPABILITY:
            alone = machine_of(card, share=options.gpu_memory_utilization)
            choice = choose(alone, profile, known, context, options)
            if choice:
                return choice
    return None


def _other(cards: Cards, profile: Profile, options: Options) -> str | None:
    """The profile with the most parameters that fits these cards."""
    ours = [profiles.find_profile(name) for name in profiles.profile_names()]
    fitting = [
        (other.known.parameters, other.name)
        for other in ours
        if other.known
        and other.name != profile.name
        and (other.known.adapters or not options.adapters)
        and choose(cards, other, other.known, other.context, options)
    ]
    return max(fitting)[1] if fitting else None
