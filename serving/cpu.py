"""The plan for a CPU: its memory decides what fits, its instructions how fast it is."""

from __future__ import annotations

import math

from serving import profiles
from serving.hardware import Machine
from serving.model import Dimensions
from serving.setting import GIB, Options, PlanError, Setting, asked, gib

# Three processes (HTTP, engine, worker) that each import torch and vLLM: 4.9 GB measured with the embedded model (sum of
# proportional set sizes), its weights and 1 GiB of cache included.
PROCESSES = 7 * GIB // 2
# Below a billion parameters a CPU gains from batching up to here (SmolLM2-135M: 31, 185, 300 tokens/s at 1, 8, 32).
SEQUENCES_SMALL, SEQUENCES_LARGE, SMALL_PARAMETERS = 32, 8, 10**9
FULL_CONVERSATIONS = 4
# vLLM's CPU kernels, the fastest first: what computes bfloat16, by the flags of the CPU.
INSTRUCTIONS = {
    "amx_bf16": "AMX multiplies it in tiles",
    "avx512_bf16": "AVX-512 multiplies it",
    "bf16": "the ARM cores multiply it",
    "avx512f": "AVX-512 widens it on the way",
    "avx2": "AVX2 widens it on the way: slow",
}


def parts(known: Dimensions | None, context: int) -> dict[str, int]:
    """Bytes by part; the cache holds four full conversations and at least 1 GiB."""
    per_token = known.kv_bytes_per_token("bfloat16") if known else 0
    state = known.layers * known.mamba.state_bytes("bfloat16") if known and known.mamba else 0
    cache = max(1, math.ceil(FULL_CONVERSATIONS * (context * per_token + state) / GIB)) * GIB
    held = {"processes": PROCESSES, "key/value cache": cache}
    return {**held, "weights": known.weights_bytes("bfloat16")} if known else held


def settings(
    machine: Machine, known: Dimensions | None, context: int, options: Options
) -> tuple[list[Setting], dict[str, int]]:
    """The settings and the memory by part. Raises PlanError with what would fit."""
    for name in ("quantization", "gpu_memory_utilization", "tensor_parallel_size", "pipeline_parallel_size", "nodes"):
        if getattr(options, name) not in {None, "none", 1}:
            raise PlanError(
                f"--{name.replace('_', '-')} {getattr(options, name)}: only for GPUs, and this plan is for the CPU"
            )
    held = parts(known, context)
    if sum(held.values()) > machine.available:
        named = ", ".join(f"{part} {gib(size)}" for part, size in held.items())
        raise PlanError(
            f"{gib(sum(held.values()))} of memory are needed ({named}), {gib(machine.available)} are free: "
            f"{_nearest(machine, known, context)}"
        )
    small = known is not None and known.parameters < SMALL_PARAMETERS
    cache = held["key/value cache"]
    tokens = f"{cache // known.kv_bytes_per_token('bfloat16'):,} tokens" if known else "size of a token unknown"
    most = SEQUENCES_SMALL if small else SEQUENCES_LARGE
    how = next((text for flag, text in INSTRUCTIONS.items() if flag in machine.flags), "which decides a CPU's speed")
    batched = options.max_num_batched_tokens
    return [
        Setting("--dtype", "bfloat16", f"half the memory of float32; {how}"),
        asked("--max-num-seqs", options.max_num_seqs)
        if options.max_num_seqs
        else Setting("--max-num-seqs", str(most), f"{machine.cores} cores gain little from more at once"),
        *([asked("--max-num-batched-tokens", batched)] if batched else []),
        Setting("--enforce-eager", "", "ready sooner: no compilation, which a CPU needs longer for than it saves"),
        Setting(
            "VLLM_CPU_KVCACHE_SPACE", str(cache // GIB), f"GiB of cache, at least four full conversations ({tokens})"
        ),
    ], held


def _nearest(machine: Machine, known: Dimensions | None, context: int) -> str:
    """A shorter context where the cache is what is too large, and the largest profile that fits."""
    found = []
    shorter = next((less for less in range((context - 1) // 256 * 256, 511, -256) if _fits(machine, known, less)), None)
    if shorter:
        found.append(f"--max-model-len {shorter} fits")
    ours = [profiles.find_profile(name) for name in profiles.profile_names()]
    fitting = [(p.known.parameters, p.name) for p in ours if p.known and _fits(machine, p.known, p.context)]
    if fitting:
        found.append(f"--model {max(fitting)[1]} fits")
    return " or ".join(found) or "close other programs; no profile fits"


def _fits(machine: Machine, known: Dimensions | None, context: int) -> bool:
    return sum(parts(known, context).values()) <= machine.available
