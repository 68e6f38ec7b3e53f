"""A choice for GPUs as settings with their reasons, and what it leads one to expect."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from serving import memory
from serving.gpu import EXPECTED_LENGTH, MOST_SEQUENCES, Cards, Choice, rates, spans_nodes, too_slow
from serving.model import Dimensions
from serving.quantisation import AWQ, BITSANDBYTES, FP8, FP8_CAPABILITY, NONE
from serving.setting import Options, PlanError, Setting, asked, gib
from serving.throughput import Work

# Without dimensions nothing is counted: vLLM's own step for cards under 70 GiB, and few enough at once for most models.
UNKNOWN_SEQUENCES, UNKNOWN_TOKENS = 64, 2048


@dataclass(frozen=True)
class Expected:
    """What a plan leads one to expect.

    Tokens the key/value cache holds, conversations at once by their length in tokens, and output tokens per second by
    conversations at once (256 tokens of prompt, 128 of answer).
    """

    kv_tokens: int = 0
    conversations: Mapping[int, int] = field(default_factory=dict)
    throughput: Mapping[int, float] = field(default_factory=dict)


def gpu_expected(choice: Choice, known: Dimensions, context: int) -> Expected:
    """From the cache's pages and the roofline."""
    lengths = sorted({context, min(EXPECTED_LENGTH, context)})
    return Expected(
        kv_tokens=choice.cache.tokens(context),
        conversations={length: choice.cache.conversations(length) for length in lengths},
        throughput={number: round(rate) for number, rate in rates(choice, known).items()},
    )


def gpu_settings(
    cards: Cards, choice: Choice | None, known: Dimensions | None, context: int, options: Options
) -> list[Setting]:
    """The arguments in the table's order; `choice` is None for a model whose dimensions nobody knows. Raises PlanError."""
    major, minor = cards.gpu.capability
    settings = [Setting("--dtype", cards.dtype, f"{cards.gpu.name} computes it (capability {major}.{minor})")]
    if choice is None or known is None:
        return [*settings, *_unknown(cards, options)]
    batched, sequences = choice.load.batched_tokens, choice.load.sequences
    if batched < sequences:
        raise PlanError(f"--max-num-batched-tokens {batched}: must be at least --max-num-seqs, {sequences}")
    return [
        *settings,
        *_quantisation(choice, known, options),
        _sequences(choice, known, context, options),
        _batched(batched, options),
        _utilisation(cards, options),
        *_layout(choice, options),
    ]


def _quantisation(choice: Choice, known: Dimensions, options: Options) -> list[Setting]:
    quantisation = choice.quantisation
    native = choice.cards.gpu.capability >= FP8_CAPABILITY
    how = "" if quantisation is not FP8 else "; computed in 8 bits" if native else "; computed in 16 bits"
    why = f"16 bits do not fit; {quantisation.loss}{how}"
    if quantisation is NONE:
        why = "the checkpoint is quantised already" if known.held else "16 bits fit: nothing is lost"
    why = "asked for" if options.quantization else why
    value = quantisation.argument or quantisation.name
    settings = [Setting("--quantization", value, why, passed=quantisation.argument is not None)]
    if choice.load.cache_type == "fp8":
        settings.append(Setting("--kv-cache-dtype", "fp8", "twice the tokens in the same memory, which is short here"))
    return settings


def _sequences(choice: Choice, known: Dimensions, context: int, options: Options) -> Setting:
    value = choice.load.sequences
    if options.max_num_seqs is not None:
        return asked("--max-num-seqs", value)
    length = min(EXPECTED_LENGTH, context)
    held = choice.cache.conversations(length)
    if value >= MOST_SEQUENCES:
        return Setting("--max-num-seqs", str(value), f"the most measured; the cache holds {held:,} of {length} tokens")
    work = Work(known, choice.quantisation, choice.layout, choice.load.cache_type)
    if choice.cards.card is None or held - value < 8 or not too_slow(choice.cards.card, work, value + 8):
        return Setting("--max-num-seqs", str(value), f"what the cache holds, of {length} tokens each")
    return Setting("--max-num-seqs", str(value), "more would each be answered slower than one reads")


def _batched(value: int, options: Options) -> Setting:
    if options.max_num_batched_tokens is not None:
        return asked("--max-num-batched-tokens", value)
    return Setting(
        "--max-num-batched-tokens", str(value), "a step with this many stays short enough for the others' answers"
    )


def _utilisation(cards: Cards, options: Options) -> Setting:
    if options.gpu_memory_utilization is not None:
        return asked("--gpu-memory-utilization", f"{cards.share:.2f}")
    left = gib(cards.gpu.memory - memory.cuda_memory(cards.gpu.memory) * cards.share)
    return Setting("--gpu-memory-utilization", f"{cards.share:.2f}", f"leaves {left} to driver, context and growth")


def _layout(choice: Choice, options: Options) -> list[Setting]:
    layout, cards = choice.layout, choice.cards
    why = f"the fewest of {cards.gpus} that hold it" if cards.gpus > 1 else "one GPU"
    tensor = "asked for" if options.tensor_parallel_size else why
    settings = [Setting("--tensor-parallel-size", str(layout.tensor), tensor)]
    if layout.pipeline > 1 or options.pipeline_parallel_size:
        stages = "layers are cut where heads alone do not fit, and between nodes"
        reason = "asked for" if options.pipeline_parallel_size else stages
        settings.append(Setting("--pipeline-parallel-size", str(layout.pipeline), reason))
    if spans_nodes(cards, layout):
        settings.append(Setting("--distributed-executor-backend", "ray", "one node's GPUs are too few"))
    return settings


def _unknown(cards: Cards, options: Options) -> list[Setting]:
    why = "nothing is known of the model's size: fetch its config.json, or give it a profile"
    sequences, tokens = options.max_num_seqs, options.max_num_batched_tokens
    tensor, pipeline = options.tensor_parallel_size or 1, options.pipeline_parallel_size or 1
    settings = [
        asked("--max-num-seqs", sequences) if sequences else Setting("--max-num-seqs", str(UNKNOWN_SEQUENCES), why),
        asked("--max-num-batched-tokens", tokens)
        if tokens
        else Setting("--max-num-batched-tokens", str(UNKNOWN_TOKENS), why),
        _utilisation(cards, options),
        Setting("--tensor-parallel-size", str(tensor), "asked for" if options.tensor_parallel_size else why),
    ]
    if pipeline > 1:
        settings.append(asked("--pipeline-parallel-size", pipeline))
    if options.quantization == AWQ.name:
        raise PlanError("--quantization awq: this model's checkpoints are unknown; name the one in AWQ as --model")
    wanted = next((known for known in (FP8, BITSANDBYTES) if known.name == options.quantization), None)
    if wanted:
        settings.append(asked("--quantization", wanted.argument))
    if tensor * pipeline > cards.number:
        settings.append(Setting("--distributed-executor-backend", "ray", "one node's GPUs are too few"))
    return settings
