"""What a user may decide, and what a plan consists of."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from serving.errors import ServingError
from serving.quantisation import NAMES

GIB = 1 << 30


class PlanError(ServingError):
    """The model cannot be served here; the sentence says what is missing and what would fit."""


@dataclass(frozen=True)
class Options:
    """What the user may decide; None leaves it to the plan. `cpu` forbids GPUs. `adapters` are (name, folder or hub id).

    `gpus` (such as 2xH100) plans for GPUs that need not be here; `nodes` are machines joined by Ray, each with the same GPUs.
    """

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
    adapters: tuple[tuple[str, str], ...] = ()
    quantization: str | None = None
    gpu_memory_utilization: float | None = None
    max_num_batched_tokens: int | None = None
    tensor_parallel_size: int | None = None
    pipeline_parallel_size: int | None = None
    nodes: int = 1
    gpus: str | None = None


@dataclass(frozen=True)
class Setting:
    """One argument or variable of the command, and why it has this value. `words` are the value's own, where it has several.

    One that is not `passed` is what vLLM does without being told.
    """

    name: str
    value: str
    reason: str
    words: tuple[str, ...] = ()
    passed: bool = True


def check_options(options: Options) -> None:
    """What is wrong whatever the machine and the model are. Raises PlanError."""
    for name in (
        "max_model_len",
        "max_num_seqs",
        "max_num_batched_tokens",
        "tensor_parallel_size",
        "pipeline_parallel_size",
    ):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise PlanError(f"--{name.replace('_', '-')} {value}: must be 1 or more")
    if not 0 <= options.port <= 65_535:
        raise PlanError(f"--port {options.port}: must be 0 to 65535")
    if options.nodes < 1:
        raise PlanError(f"--nodes {options.nodes}: must be 1 or more")
    share = options.gpu_memory_utilization
    if share is not None and not 0 < share <= 1:
        raise PlanError(f"--gpu-memory-utilization {share}: must be more than 0 and at most 1")
    if options.quantization is not None and options.quantization not in NAMES:
        raise PlanError(f"--quantization {options.quantization}: allowed are {', '.join(NAMES)}")


def asked(name: str, value: object) -> Setting:
    """A setting that the user decided."""
    return Setting(name, str(value), "asked for")


def gib(size: float) -> str:
    """Bytes for a reader."""
    return f"{size / GIB:.1f} GiB"
