"""From what the user asked for to a plan that can be started: finds the environment, prepares an embedded model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from serving import embedded, profiles
from serving.cards import parse_cards
from serving.embedded import Progress
from serving.environment import EnvironmentMissingError, built_for, find_python
from serving.gpu import choose, read_cards
from serving.hardware import Gpu, Machine, read_machine
from serving.memory import cuda_memory
from serving.plan import Options, Plan, PlanError, make_plan
from serving.setting import check_options

# What `plan` names where no environment with vLLM is here.
PLACEHOLDER = Path("python")

_AGAIN = "make one for the CPU with `python serving/install.py --device cpu --uv .venv/bin/uv`"


def choose_model(options: Options, machine: Machine) -> str:
    """What `--model` said, else Falcon-7B where GPUs hold it in 16 bits, else the embedded model."""
    if options.model:
        return options.model
    if not options.cpu and machine.gpus and _holds(profiles.GPU_DEFAULT, machine, options):
        return profiles.GPU_DEFAULT
    return profiles.EMBEDDED_DEFAULT


def _holds(name: str, machine: Machine, options: Options) -> bool:
    profile = profiles.find_profile(name)
    try:
        cards = read_cards(machine.gpus, options)
    except PlanError:
        return False
    whole = replace(options, quantization="none")
    return profile.known is not None and choose(cards, profile, profile.known, profile.context, whole) is not None


def make(options: Options, machine: Machine | None = None, *, runnable: bool = True) -> Plan:
    """The plan alone; nothing is written. An embedded model's folder is named even if it is not made yet.

    With `runnable` False an environment with vLLM need not be here. Raises ServingError.
    """
    check_options(options)
    if options.gpus is not None and options.cpu:
        raise PlanError(f"--cpu leaves GPUs alone, and the plan is for {options.gpus}: give one of them")
    if options.gpus is not None:
        machine, python = _elsewhere(options.gpus), PLACEHOLDER
    else:
        machine = machine or read_machine()
        python, options = _environment(options, machine, runnable)
    profile = profiles.find_profile(choose_model(options, machine))
    model = profile.model
    if profile.embedded:
        model = str(embedded.prepared_folder(profile.embedded, embedded.cache_folder()))
    return make_plan(machine, profile, options, python, model)


def _elsewhere(text: str) -> Machine:
    """A machine with idle cards of the table; of its cores and memory nothing is known."""
    number, card = parse_cards(text)
    gpu = Gpu(card.name, card.memory, cuda_memory(card.memory), card.capability)
    return Machine(0, 0, 0, gpus=(gpu,) * number)


def _environment(options: Options, machine: Machine, runnable: bool) -> tuple[Path, Options]:
    """The Python that has vLLM, and the options as far as its build allows them. Raises ServingError."""
    try:
        python = find_python(options.vllm_python)
    except EnvironmentMissingError:
        if runnable or options.vllm_python:
            raise
        return PLACEHOLDER, options
    device = built_for(python)
    if device == "cuda" and (options.cpu or not machine.gpus):
        raise PlanError(
            f"{python} is vLLM for NVIDIA GPUs, which {'--cpu forbids' if options.cpu else 'are not here'}: {_AGAIN}"
        )
    return python, replace(options, cpu=True) if device == "cpu" else options


def prepare(options: Options, progress: Progress, machine: Machine | None = None) -> Plan:
    """The plan, with everything it needs in place. Raises ServingError."""
    plan = make(options, machine)
    if plan.profile in embedded.EMBEDDED:
        embedded.prepare(plan.profile, Path(plan.argv[0]), embedded.cache_folder(), progress)
    return plan
