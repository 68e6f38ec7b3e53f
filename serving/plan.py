"""From machine and model to the command that serves it, with one line of reason for each setting.

What cannot fit is refused before anything is started, with the nearest thing that fits. `memory` has the arithmetic,
`gpu` and `cpu` the decisions, `throughput` the expected speed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from serving import cpu
from serving.adapters import AdapterError, check_adapters, largest_rank
from serving.expected import Expected, gpu_expected, gpu_settings
from serving.gpu import choose, read_cards
from serving.hardware import Machine
from serving.nearest import old, refusal
from serving.profiles import Profile
from serving.quantisation import AWQ
from serving.setting import GIB, Options, PlanError, Setting, asked, check_options

__all__ = ["GIB", "Options", "Plan", "PlanError", "Setting", "make_plan"]


@dataclass(frozen=True)
class Plan:
    """Everything needed to start the model server. `memory` maps parts to bytes; `defaults`, `template_tokens` see Profile.

    `memory` is the fullest GPU's, or the machine's on a CPU. `sequences` are computed at once at most; `adapters` are the
    names of fine-tuned models served beside `served_name`; `expected` is what the plan leads one to expect;
    `gpus` are all there are, used or not.
    """

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
    sequences: int = 1
    adapters: tuple[str, ...] = ()
    machine: str = ""
    expected: Expected = field(default_factory=Expected)
    gpus: int = 0

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


@dataclass(frozen=True)
class _Decided:
    """What the device's side of the plan comes to."""

    settings: list[Setting]
    memory: Mapping[str, int]
    machine: str
    expected: Expected = field(default_factory=Expected)
    awq: bool = False


def make_plan(machine: Machine, profile: Profile, options: Options, python: Path, model: str) -> Plan:
    """The plan for serving `model` (a folder or hub id) under `profile`. Starts nothing. Raises PlanError, AdapterError."""
    check_options(options)
    context = _context(profile, options)
    adapters = _adapter_settings(profile, options)
    on_gpu = bool(machine.gpus) and not options.cpu
    decided = (_on_gpus if on_gpu else _on_cpu)(machine, profile, int(context.value), options)
    settings = [context, *decided.settings, *adapters, *_common_settings(profile, options)]
    served = profile.awq if decided.awq and profile.awq else model
    command = [str(python), "-m", "vllm.entrypoints.openai.api_server", "--model", served]
    command += ["--served-model-name", options.served_name or profile.served_name]
    command += ["--host", options.host, "--port", str(options.port), "--uvicorn-log-level", "warning"]
    for setting in settings:
        if setting.passed and setting.name.startswith("--"):
            command += [setting.name, *(setting.words or ((setting.value,) if setting.value else ()))]
    return Plan(
        profile=profile.name,
        device="cuda" if on_gpu else "cpu",
        argv=tuple(command),
        environment={s.name: s.value for s in settings if not s.name.startswith("--")},
        host=options.host,
        port=options.port,
        model=served,
        served_name=options.served_name or profile.served_name,
        context_length=int(context.value),
        licence=profile.licence,
        template_tokens=profile.template_tokens,
        defaults=dict(profile.defaults),
        memory=decided.memory,
        settings=tuple(settings),
        expected_seconds=120 if on_gpu else 50,
        sequences=next(int(setting.value) for setting in settings if setting.name == "--max-num-seqs"),
        adapters=tuple(name for name, _ in options.adapters),
        machine=decided.machine,
        expected=decided.expected,
        gpus=len(machine.gpus) * options.nodes if on_gpu else 0,
    )


def _on_gpus(machine: Machine, profile: Profile, context: int, options: Options) -> _Decided:
    cards = read_cards(machine.gpus, options)
    name = f"{cards.gpus} × {cards.gpu.name}" + (f" on {cards.nodes} nodes" if cards.nodes > 1 else "")
    if profile.known is None:
        if cards.too_old:
            raise PlanError(f"{old(cards)}: use a newer card, or --cpu")
        return _Decided(gpu_settings(cards, None, None, context, options), {}, name)
    choice = choose(cards, profile, profile.known, context, options)
    if choice is None:
        raise refusal(cards, profile, profile.known, context, options)
    expected = gpu_expected(choice, profile.known, context)
    settings = gpu_settings(cards, choice, profile.known, context, options)
    return _Decided(settings, choice.parts.named(), name, expected, choice.quantisation is AWQ)


def _on_cpu(machine: Machine, profile: Profile, context: int, options: Options) -> _Decided:
    settings, memory = cpu.settings(machine, profile.known, context, options)
    flags = " ".join(sorted(machine.flags)) or "no vector instructions known"
    name = f"{machine.cores} CPU cores ({flags}), {machine.available / GIB:.1f} GiB free"
    return _Decided(settings, memory, name, _cpu_expected(profile, memory, context))


def _cpu_expected(profile: Profile, memory: Mapping[str, int], context: int) -> Expected:
    if profile.known is None:
        return Expected()
    tokens = memory["key/value cache"] // profile.known.kv_bytes_per_token("bfloat16")
    return Expected(kv_tokens=tokens, conversations={context: tokens // context})


def _context(profile: Profile, options: Options) -> Setting:
    most = profile.known.max_positions if profile.known else None
    if options.max_model_len is None:
        return Setting("--max-model-len", str(profile.context), f"the profile's; the model allows {most or 'unknown'}")
    if options.max_model_len < 1 or (most and options.max_model_len > most):
        raise PlanError(
            f"--max-model-len {options.max_model_len}: {profile.name} allows 1 to {most or 'its own maximum'}"
        )
    return Setting("--max-model-len", str(options.max_model_len), f"asked for; the model allows {most or 'unknown'}")


def _adapter_settings(profile: Profile, options: Options) -> list[Setting]:
    if not options.adapters:
        return []
    if profile.known and not profile.known.adapters:
        raise AdapterError(
            f"--adapter: vLLM serves no LoRA adapters for {profile.name}'s class; choose another --model"
        )
    adapters = check_adapters(options.adapters, options.served_name or profile.served_name)
    count, words = len(adapters), tuple(f"{name}={source}" for name, source in adapters)
    return [
        Setting("--enable-lora", "", f"{count} fine-tuned model(s) beside their base, which is held once"),
        Setting("--max-loras", str(count), "requests for any of them are computed together"),
        Setting(
            "--max-lora-rank", str(largest_rank(adapters)), "the smallest rank vLLM allows that holds each of them"
        ),
        Setting("--lora-modules", " ".join(words), "each under a model name of its own", words),
    ]


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
        settings.append(asked("--load-format", options.load_format))
    if options.otlp_traces_endpoint:
        settings += [
            Setting("--otlp-traces-endpoint", options.otlp_traces_endpoint, "asked for"),
            Setting("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/protobuf", "as the gateway sends its own traces"),
            Setting("OTEL_SERVICE_NAME", "vllm", "what its traces call it"),
        ]
    return settings
