"""A machine divided between model servers that serve the same: each gets GPUs, or cores and memory, of its own."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from serving.embedded import Progress
from serving.environment import built_for, find_python
from serving.hardware import Gpu, Machine, read_machine
from serving.plan import Options, Plan, PlanError, Setting
from serving.prepare import prepare

TOPOLOGY = Path("/sys/devices/system/cpu")
_PARALLEL = ("--tensor-parallel-size", "--pipeline-parallel-size")


def prepare_replicas(
    options: Options,
    ports: Sequence[int],
    progress: Progress,
    *,
    machine: Machine | None = None,
    visible: str | None = None,
    cores: Sequence[int] | None = None,
) -> tuple[Plan, ...]:
    """A plan for each port; all are alike but for what keeps them to their share of the machine.

    `visible` is what CUDA_VISIBLE_DEVICES holds (`machine` has no others), `cores` are those of `physical_cores`. Weights are
    prepared once. A single replica has the whole machine, as if this function were not there. Raises ServingError.
    """
    if len(ports) == 1:
        return (prepare(replace(options, port=ports[0]), progress, machine),)
    if not ports:
        raise PlanError("--replicas: must be 1 or more")
    if options.nodes > 1:
        raise PlanError(
            f"--replicas {len(ports)} and --nodes {options.nodes}: replicas share one machine; for several groups of machines "
            "start each with `passerelle serve --nodes` and name their URLs in one target"
        )
    machine = machine or read_machine()
    on_cpu = options.cpu or not machine.gpus or built_for(find_python(options.vllm_python)) == "cpu"
    own = _on_cpu(len(ports), cores or physical_cores()) if on_cpu else _on_gpus(machine, len(ports), visible)
    share = _share(machine, len(ports), () if on_cpu else _alike(machine.gpus, len(own[0])))
    held = f"{share.available / (1 << 30):.1f} GiB of memory" if on_cpu else f"{len(share.gpus)} GPU(s)"
    try:
        plans = [prepare(replace(options, port=port), progress, share) for port in ports]
    except PlanError as error:
        raise PlanError(f"--replicas {len(ports)} leaves {held} to each: {error}") from error
    counted = (
        [Setting("CUDA_DEVICE_ORDER", "PCI_BUS_ID", "GPUs are counted as nvidia-smi does")] if visible is None else []
    )
    return tuple(_kept(plan, names, counted) for plan, names in zip(plans, own, strict=True))


def physical_cores(allowed: Sequence[int] | None = None, topology: Path = TOPOLOGY) -> list[int]:
    """One logical CPU of each core that this process may use, those of a socket together; all of them where nobody says."""
    if allowed is None:
        allowed = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    first: dict[tuple[str, str], int] = {}
    for cpu in allowed:
        known = topology / f"cpu{cpu}" / "topology"
        try:
            core = ((known / "physical_package_id").read_text(), (known / "thread_siblings_list").read_text())
        except OSError:
            return list(allowed)
        first.setdefault(core, cpu)
    sockets = list(dict.fromkeys(socket for socket, _ in first))
    return [cpu for socket in sockets for (of, _), cpu in first.items() if of == socket]


def _on_cpu(number: int, cores: Sequence[int]) -> list[list[str]]:
    """The cores that compute for each replica; one of several is left to its other processes, as vLLM itself does."""
    each = len(cores) // number
    if not each:
        raise PlanError(f"--replicas {number}: this machine has {len(cores)} cores, and each replica needs its own")
    shares = [cores[start : start + each] for start in range(0, number * each, each)]
    return [[str(core) for core in (share[:-1] if each > 1 else share)] for share in shares]


def _on_gpus(machine: Machine, number: int, visible: str | None) -> list[list[str]]:
    """The names of each replica's GPUs, as CUDA_VISIBLE_DEVICES takes them."""
    names = [str(index) for index in range(len(machine.gpus))]
    if visible is not None:
        names = [name.strip() for name in visible.split(",")][: len(machine.gpus)]
    each = len(names) // number
    if not each:
        raise PlanError(f"--replicas {number}: this machine has {len(names)} GPU(s), and each replica needs its own")
    return [names[start : start + each] for start in range(0, number * each, each)]


def _alike(gpus: Sequence[Gpu], each: int) -> tuple[Gpu, ...]:
    """So many GPUs, each as small as the smallest: replicas of one target have the same context and do the same at once."""
    least = min(gpus, key=lambda gpu: gpu.free)
    return (replace(least, capability=min(gpu.capability for gpu in gpus)),) * each


def _share(machine: Machine, number: int, gpus: tuple[Gpu, ...]) -> Machine:
    return replace(
        machine,
        cores=max(1, machine.cores // number),
        memory=machine.memory // number,
        available=machine.available // number,
        gpus=gpus,
    )


def _kept(plan: Plan, own: list[str], counted: list[Setting]) -> Plan:
    """The plan with the variables that keep its processes to their share."""
    if plan.device == "cpu":
        settings = [Setting("VLLM_CPU_OMP_THREADS_BIND", ",".join(own), "this replica's own cores")]
    else:
        used = math.prod(int(setting.value) for setting in plan.settings if setting.name in _PARALLEL)
        settings = [Setting("CUDA_VISIBLE_DEVICES", ",".join(own[:used]), "this replica's own GPU(s)"), *counted]
    environment = {**plan.environment, **{setting.name: setting.value for setting in settings}}
    return replace(plan, environment=environment, settings=(*plan.settings, *settings))
