"""From what the user asked for to a plan that can be started: finds the environment, prepares an embedded model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from serving import embedded, profiles
from serving.embedded import Progress
from serving.environment import built_for, find_python
from serving.hardware import Machine, read_machine
from serving.plan import Options, Plan, PlanError, make_plan

# A GPU smaller than this does not hold Falcon-7B in 16 bits with room for a cache.
FALCON_MEMORY = 20 << 30


_AGAIN = "make one for the CPU with `python serving/install.py --device cpu --uv .venv/bin/uv`"


def choose_model(options: Options, machine: Machine) -> str:
    """What `--model` said, else Falcon-7B where a GPU holds it, else the embedded model."""
    if options.model:
        return options.model
    if not options.cpu and any(gpu.free >= FALCON_MEMORY for gpu in machine.gpus):
        return profiles.GPU_DEFAULT
    return profiles.EMBEDDED_DEFAULT


def make(options: Options, machine: Machine | None = None) -> Plan:
    """The plan alone; nothing is written. An embedded model's folder is named even if it is not made yet.

    Raises ServingError.
    """
    machine = machine or read_machine()
    python = find_python(options.vllm_python)
    device = built_for(python)
    if device == "cuda" and (options.cpu or not machine.gpus):
        raise PlanError(
            f"{python} is vLLM for NVIDIA GPUs, which {'--cpu forbids' if options.cpu else 'are not here'}: {_AGAIN}"
        )
    if device == "cpu":
        options = replace(options, cpu=True)
    profile = profiles.find_profile(choose_model(options, machine))
    model = profile.model
    if profile.embedded:
        model = str(embedded.prepared_folder(profile.embedded, embedded.cache_folder()))
    return make_plan(machine, profile, options, python, model)


def prepare(options: Options, progress: Progress, machine: Machine | None = None) -> Plan:
    """The plan, with everything it needs in place. Raises ServingError."""
    plan = make(options, machine)
    if plan.profile in embedded.EMBEDDED:
        embedded.prepare(plan.profile, Path(plan.argv[0]), embedded.cache_folder(), progress)
    return plan
