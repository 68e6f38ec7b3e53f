"""From machine and model to the command that serves it, with one line of reason for each setting.

The arithmetic is the simplest honest one: weights plus key/value cache plus the processes' own memory must fit. What
cannot fit is refused before anything is started.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from serving.errors import ServingError
from serving.hardware import Machine
from serving.model import Dimensions
from serving.profiles import Profile

GIB = 1 << 30

# Three processes (HTTP, engine, worker) that each import torch and vLLM: 4.9 GB measured with the embedded model (sum of
# proportional set sizes), its weights and 1 GiB of cache included.
CPU_PROCESSES = 7 * GIB // 2
# Below a billion parameters a CPU gains from batching up to here (SmolLM2-135M: 31, 185, 300 tokens/s at 1, 8, 32).
CPU_SEQUENCES_SMALL, CPU_SEQUENCES_LARGE, SMALL_PARAMETERS = 32, 8, 10**9
GPU_UTILISATION = 0.90
# What is left for the cache and activations beside the weights, at least, as a share of vLLM's part of the memory.
GPU_WEIGHTS_SHARE = 0.85
BFLOAT16_CAPABILITY = (8, 0)  # Ampere


class PlanError(ServingError):
    """The model cannot be served here; the sentence says what is missing and what would fit."""


@dataclass(frozen=True)
class Options:
    """What the user may decide; None leaves it to the plan. `cpu` forbids GPUs."""

    model: str | None = None
    cpu: bool = False
    host: str = "127.0.0.1"
    port: int = 8001
    served_name: str | None = None
    vllm_python: Path | None = None
    max_model_len: int | None = None
    max_num_seqs: int | None = None
    load_format: str | None = None
    otlp_traces_endpoint: str | None = None


@dataclass(frozen=True)
class Setting:
    """One argument or variable of the command, and why it has this value."""

    name: str
    value: str
    reason: str


@dataclass(frozen=True)
class Plan:
    """Everything needed to start the model server. `memory` maps parts to bytes; `defaults`, `template_tokens` see Profile."""

    profile: str
    device: str
    argv: tuple[str, ...]
    environment: Mapping[str, str]
    host: str
    port: int
    model: str
    served_name: str
    context_length: int
    licence: str
    template_tokens: int = 64
    defaults: Mapping[str, Any] = field(default_factory=dict)
    memory: Mapping[str, int] = field(default_factory=dict)
    settings: tuple[Setting, ...] = ()
    expected_seconds: int = 60

    @property
    def url(self) -> str:
        """The server's root, e.g. http://127.0.0.1:8001."""
        return f"http://{self.host}:{self.port}"

    @property
    def base_url(self) -> str:
        """What an OpenAI client takes as its base_url."""
        return f"{self.url}/v1"

    def as_dict(self) -> dict[str, Any]:
        """For `passerelle plan --json`."""
        return {**asdict(self), "base_url": self.base_url}


def make_plan(machine: Machine, profile: Profile, options: Options, python: Path, model: str) -> Plan:
    """The plan for serving `model` (a folder or hub id) under `profile`. Reads nothing, starts nothing.

    Raises PlanError.
    """
    gpus = () if options.cpu else machine.gpus
    known = profile.known
    context = _context(profile, options)
    if gpus:
        device, (settings, memory) = "cuda", _gpu_settings(machine, known, options)
    else:
        device, (settings, memory) = "cpu", _cpu_settings(machine, known, context.value, options)
    settings = [context, *settings, *_common_settings(profile, options)]
    command = [str(python), "-m", "vllm.entrypoints.openai.api_server", "--model", model]
    command += ["--served-model-name", options.served_name or profile.served_name]
    command += ["--host", options.host, "--port", str(options.port), "--uvicorn-log-level", "warning"]
    arguments = [setting for setting in settings if setting.name.startswith("--")]
    for setting in arguments:
        command += [setting.name, setting.value] if setting.value else [setting.name]
    return Plan(
        profile=profile.name,
        device=device,
        argv=tuple(command),
        environment={s.name: s.value for s in settings if not s.name.startswith("--")},
        host=options.host,
        port=options.port,
        model=model,
        served_name=options.served_name or profile.served_name,
        context_length=int(context.value),
        licence=profile.licence,
        template_tokens=profile.template_tokens,
        defaults=dict(profile.defaults),
        memory=memory,
        settings=tuple(settings),
        expected_seconds=120 if gpus else 50,
    )


def _context(profile: Profile, options: Options) -> Setting:
    most = profile.known.max_positions if profile.known else None
    if options.max_model_len is None:
        return Setting("--max-model-len", str(profile.context), f"the profile's; the model allows {most or 'unknown'}")
    if options.max_model_len < 1 or (most and options.max_model_len > most):
        raise PlanError(
            f"--max-model-len {options.max_model_len}: {profile.name} allows 1 to {most or 'its own maximum'}"
        )
    return Setting("--max-model-len", str(options.max_model_len), f"asked for; the model allows {most or 'unknown'}")


def _common_settings(profile: Profile, options: Options) -> list[Setting]:
    settings = [
        Setting("VLLM_NO_USAGE_STATS", "1", "nothing about this machine is sent anywhere"),
        Setting("DO_NOT_TRACK", "1", "the same, for the libraries that ask this variable"),
        Setting("HF_HUB_DISABLE_TELEMETRY", "1", "the same, for the hub client"),
    ]
    if profile.local:
        settings.append(Setting("HF_HUB_OFFLINE", "1", "every file is local: no hub is asked"))
    if profile.template:
        settings.append(
            Setting("--chat-template", str(profile.template), "the model brings no chat template of its own")
        )
    if options.load_format:
        settings.append(Setting("--load-format", options.load_format, "asked for"))
    if options.otlp_traces_endpoint:
        settings += [
            Setting("--otlp-traces-endpoint", options.otlp_traces_endpoint, "asked for"),
            Setting("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/protobuf", "as the gateway sends its own traces"),
            Setting("OTEL_SERVICE_NAME", "vllm", "what its traces call it"),
        ]
    return settings


def _sequences(options: Options, value: int, reason: str) -> Setting:
    if options.max_num_seqs is None:
        return Setting("--max-num-seqs", str(value), reason)
    if options.max_num_seqs < 1:
        raise PlanError(f"--max-num-seqs {options.max_num_seqs}: must be 1 or more")
    return Setting("--max-num-seqs", str(options.max_num_seqs), "asked for")


def _cpu_settings(
    machine: Machine, known: Dimensions | None, context: str, options: Options
) -> tuple[list[Setting], dict[str, int]]:
    per_token = known.kv_bytes_per_token("bfloat16") if known else 0
    cache = max(1, math.ceil(4 * int(context) * per_token / GIB))
    memory = {"processes": CPU_PROCESSES, "key/value cache": cache * GIB}
    if known:
        memory["weights"] = known.weights_bytes("bfloat16")
    if sum(memory.values()) > machine.available:
        parts = ", ".join(f"{part} {_gib(size)}" for part, size in memory.items())
        raise PlanError(
            f"{_gib(sum(memory.values()))} of memory are needed ({parts}), {_gib(machine.available)} are free: close other "
            "programs or choose a smaller --model"
        )
    small = known is not None and known.parameters < SMALL_PARAMETERS
    most = CPU_SEQUENCES_SMALL if small else CPU_SEQUENCES_LARGE
    tokens = f"{cache * GIB // per_token:,} tokens" if per_token else "size of a token unknown"
    return [
        Setting("--dtype", "bfloat16", "half the memory of float32, which decides the speed of a CPU"),
        _sequences(options, most, "a CPU gains little from more at once"),
        Setting("--enforce-eager", "", "ready sooner: no compilation, which a CPU needs longer for than it saves"),
        Setting("VLLM_CPU_KVCACHE_SPACE", str(cache), f"GiB of cache, at least four full conversations ({tokens})"),
    ], memory


def _gpu_settings(machine: Machine, known: Dimensions | None, options: Options) -> tuple[list[Setting], dict[str, int]]:
    gpus = machine.gpus
    dtype = "bfloat16" if min(gpu.capability for gpu in gpus) >= BFLOAT16_CAPABILITY else "float16"
    share = int(min(gpu.free for gpu in gpus) * GPU_UTILISATION)
    parallel, memory = 1, {}
    if known:
        parallel = _tensor_parallel(known, dtype, share, len(gpus))
        weights = known.weights_bytes(dtype)
        memory = {"weights": weights, "key/value cache and activations": parallel * share - weights}
    first = gpus[0]
    return [
        Setting("--dtype", dtype, f"{first.name} computes it (capability {first.capability[0]}.{first.capability[1]})"),
        _sequences(options, 256 if share > 35 * GIB else 64, "throughput still rises up to here"),
        Setting(
            "--gpu-memory-utilization", f"{GPU_UTILISATION:.2f}", "leaves a tenth to the driver and other programs"
        ),
        Setting("--tensor-parallel-size", str(parallel), f"the fewest GPUs of {len(gpus)} that hold the weights"),
    ], memory


def _tensor_parallel(known: Dimensions, dtype: str, share: int, gpus: int) -> int:
    """The fewest GPUs that hold the weights; their number must divide the query heads. Raises PlanError."""
    weights = known.weights_bytes(dtype)
    for number in range(1, gpus + 1):
        if known.heads % number == 0 and weights <= number * share * GPU_WEIGHTS_SHARE:
            return number
    possible = [str(number) for number in range(1, gpus + 1) if known.heads % number == 0]
    raise PlanError(
        f"the weights need {_gib(weights)} in {dtype}, each of {gpus} GPU(s) offers {_gib(int(share * GPU_WEIGHTS_SHARE))} for "
        f"them and the model's {known.heads} heads can be split over {' or '.join(possible)} of them: use larger or more "
        "GPUs, choose a smaller --model, or --cpu"
    )


def _gib(size: int) -> str:
    return f"{size / GIB:.1f} GiB"
