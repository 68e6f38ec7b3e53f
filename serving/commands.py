"""`passerelle plan` and `passerelle serve`."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from serving.plan import Options

PLAN_EXAMPLE = """examples:
  passerelle plan
  passerelle plan --model falcon-7b-instruct --json
  passerelle plan --gpu "RTX A4500" --model falcon3-7b-instruct
  passerelle plan --gpus 2xH100 --nodes 2 --model falcon-40b-instruct
"""
SERVE_EXAMPLE = """examples:
  passerelle serve
  passerelle serve --model tiiuae/Falcon3-1B-Instruct --port 8001
  passerelle serve --model falcon3-7b-instruct --adapter notaire=./adapters/notaire
"""


def add_commands(subparsers: Any) -> None:
    """Add `plan` and `serve` to what `add_subparsers()` returned; each sets `func(arguments) -> int`."""
    shape: dict[str, Any] = {"formatter_class": argparse.RawDescriptionHelpFormatter}
    plan = subparsers.add_parser(
        "plan", help="print how a model would be served, and why", epilog=PLAN_EXAMPLE, **shape
    )
    add_options(plan)
    elsewhere = plan.add_mutually_exclusive_group()
    elsewhere.add_argument("--gpu", metavar="CARD", help="plan for one such card, which need not be here")
    elsewhere.add_argument("--gpus", metavar="NxCARD", help="plan for several on each machine, as in 2xH100")
    plan.add_argument("--json", action="store_true", help="print the whole plan as JSON")
    plan.set_defaults(func=run_plan)
    serve = subparsers.add_parser("serve", help="run the model server alone", epilog=SERVE_EXAMPLE, **shape)
    add_options(serve)
    serve.add_argument("--log", type=Path, help="append the server's output to this file as well")
    serve.set_defaults(func=run_serve)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options every command that starts a model server has."""
    parser.add_argument(
        "--model", help="a profile, a hub id (owner/name) or a folder; default: what this machine holds"
    )
    parser.add_argument("--cpu", action="store_true", help="leave the GPUs alone")
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default %(default)s: this machine only)"
    )
    parser.add_argument("--port", type=int, default=8001, help="port to listen on (default %(default)s)")
    parser.add_argument("--served-name", help="the model's name in requests; default: the profile's")
    parser.add_argument(
        "--vllm-python", type=Path, help="the Python that has vLLM; default: $PASSERELLE_VLLM_PYTHON, .venv-vllm"
    )
    parser.add_argument(
        "--max-model-len", type=int, metavar="TOKENS", help="prompt and answer together; default: the profile's"
    )
    parser.add_argument(
        "--max-num-seqs", type=int, metavar="N", help="requests computed at once; default: by the machine"
    )
    parser.add_argument("--quantization", help="none, fp8, awq or bitsandbytes; default: the least lossy that fits")
    parser.add_argument(
        "--gpu-memory-utilization", type=float, metavar="SHARE", help="of each GPU; default: by the card"
    )
    parser.add_argument(
        "--max-num-batched-tokens", type=int, metavar="TOKENS", help="in one step; default: by card and model"
    )
    parser.add_argument("--tensor-parallel-size", type=int, metavar="N", help="GPUs a layer is cut over; default: few")
    parser.add_argument("--pipeline-parallel-size", type=int, metavar="N", help="stages of layers; default: few")
    parser.add_argument("--nodes", type=int, default=1, metavar="N", help="machines joined by Ray, alike (default 1)")
    parser.add_argument("--load-format", help="vLLM's; `dummy` serves random weights, for measuring speed")
    parser.add_argument(
        "--adapter",
        action="append",
        default=[],
        metavar="NAME=FOLDER",
        help="a LoRA adapter (folder or owner/name) published as NAME; may be repeated",
    )
    parser.add_argument(
        "--otlp-traces-endpoint",
        metavar="URL",
        help="send traces there by OTLP/HTTP, as http://collector:4318/v1/traces",
    )


def options_from(arguments: argparse.Namespace) -> Options:
    """The options that `add_options` parsed. Raises AdapterError."""
    from serving.adapters import parse_adapter
    from serving.plan import Options

    names = (
        "model",
        "cpu",
        "host",
        "port",
        "served_name",
        "vllm_python",
        "max_model_len",
        "max_num_seqs",
        "load_format",
        "quantization",
        "gpu_memory_utilization",
        "max_num_batched_tokens",
        "tensor_parallel_size",
        "pipeline_parallel_size",
        "nodes",
        "otlp_traces_endpoint",
    )
    adapters = tuple(parse_adapter(text) for text in arguments.adapter)
    gpus = getattr(arguments, "gpus", None)  # only `plan` has them
    if gpus is None:
        gpus = getattr(arguments, "gpu", None)
    return Options(**{name: getattr(arguments, name) for name in names}, adapters=adapters, gpus=gpus)


def run_plan(arguments: argparse.Namespace) -> int:
    """Print the plan. 0, or 1 with one sentence when there is none."""
    from serving.describe import describe
    from serving.errors import ServingError
    from serving.prepare import make

    try:
        plan = make(options_from(arguments), runnable=False)
    except ServingError as error:
        print(f"passerelle: {error}", file=sys.stderr)
        return 1
    print(json.dumps(plan.as_dict(), indent=2, ensure_ascii=False) if arguments.json else describe(plan))
    return 0


def run_serve(arguments: argparse.Namespace) -> int:
    """Serve until Ctrl-C or SIGTERM. 0 then; 1 with one sentence when it cannot start or cannot be kept running."""
    from serving.errors import ServingError
    from serving.prepare import prepare
    from serving.server import ModelServer

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        plan = prepare(options_from(arguments), _say)
        _say(f"starting {plan.served_name} on the {plan.device}, ready in about {plan.expected_seconds} s")
        with ModelServer(plan, log=arguments.log, echo=_echo, progress=_say) as server:
            if server.wait() == "failed":
                return 1
    except ServingError as error:
        print(f"passerelle: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        _say("stopped")
    return 0


def _say(line: str) -> None:
    print(f"passerelle: {line}", flush=True)


def _echo(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
