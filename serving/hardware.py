"""What this machine is: cores, memory, CPU instructions, NVIDIA GPUs. Read once, never guessed."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

GPU_FIELDS = "name,memory.total,memory.free,compute_cap"

# vLLM's CPU kernels need AVX2; the others decide how fast bfloat16 is.
CPU_FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "bf16")


@dataclass(frozen=True)
class Gpu:
    """One NVIDIA GPU; memory in bytes, `capability` as (major, minor), e.g. (9, 0) for an H100."""

    name: str
    memory: int
    free: int
    capability: tuple[int, int]


@dataclass(frozen=True)
class Machine:
    """`cores` are those this process may use; memory in bytes, `available` without swapping."""

    cores: int
    memory: int
    available: int
    flags: frozenset[str] = frozenset()
    gpus: tuple[Gpu, ...] = ()


def read_machine() -> Machine:
    """The machine under this process."""
    total, available = read_memory()
    return Machine(read_cores(), total, available, read_flags(), read_gpus())


def read_cores() -> int:
    """Cores in this process's affinity mask, which containers and batch systems narrow."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def read_memory(
    meminfo: Path = Path("/proc/meminfo"), limit: Path = Path("/sys/fs/cgroup/memory.max")
) -> tuple[int, int]:
    """Total and available memory in bytes, no more than a container's limit (cgroup v2)."""
    if not meminfo.is_file():
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        return total, total
    rows = dict(line.split(":", 1) for line in meminfo.read_text().splitlines() if ":" in line)
    total, available = (int(rows[name].split()[0]) * 1024 for name in ("MemTotal", "MemAvailable"))
    written = limit.read_text().strip() if limit.is_file() else "max"
    if written.isdigit():
        total, available = min(total, int(written)), min(available, int(written))
    return total, available


def read_flags(cpuinfo: Path = Path("/proc/cpuinfo")) -> frozenset[str]:
    """The instructions of CPU_FLAGS that the first core lists (x86 calls them flags, ARM Features)."""
    if not cpuinfo.is_file():
        return frozenset()
    for line in cpuinfo.read_text().splitlines():
        if line.startswith(("flags", "Features")):
            return frozenset(line.partition(":")[2].split()) & frozenset(CPU_FLAGS)
    return frozenset()


def read_gpus(command: str = "nvidia-smi") -> tuple[Gpu, ...]:
    """The GPUs by NVML, else by `nvidia-smi`; none when neither is here or both fail.

    Both list every GPU; those that $CUDA_VISIBLE_DEVICES hides from programs are left out.
    """
    found = read_nvml()
    return visible(read_smi(command) if found is None else found, os.environ.get("CUDA_VISIBLE_DEVICES"))


def visible(gpus: tuple[Gpu, ...], setting: str | None) -> tuple[Gpu, ...]:
    """The GPUs by their numbers in $CUDA_VISIBLE_DEVICES, up to the first that is not there; all when it names none by number."""
    words = [word.strip() for word in (setting or "").split(",")]
    if setting is None or any(word.upper().startswith(("GPU-", "MIG-")) for word in words):
        return gpus
    numbers = list(takewhile(lambda word: word.isdigit() and int(word) < len(gpus), words))
    return tuple(gpus[int(number)] for number in numbers)


def read_nvml() -> tuple[Gpu, ...] | None:
    """The GPUs by the driver's own library (nvidia-ml-py); None when library or driver are not here.

    A GPU whose memory the driver does not tell, as on unified-memory machines, is left out.
    """
    try:
        import pynvml  # type: ignore[import-untyped]  # it carries no types
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    gpus = []
    try:
        for index in range(pynvml.nvmlDeviceGetCount()):
            with suppress(pynvml.NVMLError):
                gpus.append(nvml_gpu(pynvml, pynvml.nvmlDeviceGetHandleByIndex(index)))
    except pynvml.NVMLError:
        return None
    finally:
        pynvml.nvmlShutdown()
    return tuple(gpus)


def nvml_gpu(nvml: Any, handle: Any) -> Gpu:
    """One GPU as the module `pynvml` shows it."""
    name, memory = nvml.nvmlDeviceGetName(handle), nvml.nvmlDeviceGetMemoryInfo(handle)
    major, minor = nvml.nvmlDeviceGetCudaComputeCapability(handle)
    # The first version of this structure counts what the driver keeps as used, as nvidia-smi's total does.
    text = name.decode() if isinstance(name, bytes) else str(name)
    return Gpu(text, int(memory.total), int(memory.free), (int(major), int(minor)))


def read_smi(command: str = "nvidia-smi") -> tuple[Gpu, ...]:
    """The GPUs that `nvidia-smi` lists; none when it is missing, hangs or fails."""
    path = shutil.which(command)
    if path is None:
        return ()
    query = [path, f"--query-gpu={GPU_FIELDS}", "--format=csv,noheader,nounits"]
    try:
        found = subprocess.run(query, capture_output=True, text=True, timeout=20, check=False)  # noqa: S603 - fixed words
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return parse_gpus(found.stdout) if found.returncode == 0 else ()


def parse_gpus(text: str) -> tuple[Gpu, ...]:
    """Parse `nvidia-smi --query-gpu=GPU_FIELDS --format=csv,noheader,nounits`: memory in MiB, one GPU a line.

    Lines with a figure that the driver does not give ("[N/A]", as on unified-memory machines) are left out.
    """
    gpus = []
    for row in csv.reader(text.splitlines(), skipinitialspace=True):
        if len(row) == 4 and row[1].isdigit() and row[2].isdigit():
            major, _, minor = row[3].partition(".")
            gpus.append(Gpu(row[0], int(row[1]) << 20, int(row[2]) << 20, (int(major), int(minor or 0))))
    return tuple(gpus)
