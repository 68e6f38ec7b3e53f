"""`passerelle up`: a model server and a gateway on this machine, ready to be asked."""

from __future__ import annotations

import argparse
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from gateway.commands.typing import Subparsers
    from gateway.settings import Settings
    from serving.plan import Plan
    from serving.replicas import Replicas

_EXAMPLE = """examples:
  passerelle up                                      serve until Ctrl-C
  passerelle up --demo                               the same, with a demo user and one question asked
  passerelle up --model tiiuae/falcon-7b-instruct    another model; fetched from its hub
  passerelle up --replicas 2                         two model servers, each with its own GPUs or cores
  passerelle up --model falcon3-7b-instruct --adapter feedback=./adapters/feedback
"""
_START_SECONDS = 30
_MODEL_PORT = 8001
_OPENAI = "https://api.openai.com/v1"


def add_command(commands: Subparsers, add_serving_options: Callable[[argparse.ArgumentParser], None]) -> None:
    """Register the command; `add_serving_options` adds those of the model server."""
    command = commands.add_parser(
        "up",
        help="model server and gateway on this machine",
        description="Plans and starts vLLM for a model, then the gateway in front of it. GPT-3.5-turbo is the fallback "
        "when OPENAI_API_KEY is set (OPENAI_BASE_URL: any compatible address). SIGHUP has the gateway read its configuration "
        "again, SIGUSR2 has its workers replaced; a closed terminal stops everything.",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_serving_options(command)
    command.add_argument("--config", type=Path, metavar="FILE", help="more configuration (default: $PASSERELLE_CONFIG)")
    command.add_argument("--gateway-port", type=int, help="the gateway's port (default: the configuration's, 8000)")
    command.add_argument(
        "--replicas",
        type=int,
        default=1,
        metavar="N",
        help="model servers that share this machine (default: %(default)s)",
    )
    command.add_argument(
        "--demo", action="store_true", help="make a demo user, ask one French question, show what happened"
    )
    command.add_argument(
        "--once", action="store_true", help="with --demo: stop after the answer; exit code 0 if it is French"
    )
    command.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Start everything in order, stay until Ctrl-C, SIGTERM or the death of a part; stop it in reverse order."""
    from gateway.settings import BadSettings, load
    from serving.commands import options_from
    from serving.replicas import Replicas
    from serving.shares import prepare_replicas

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    on_hangup(sys.stdin, lambda: None)  # the gateway reads the configuration when it starts
    signal.signal(signal.SIGUSR2, lambda _, __: None)
    if args.config is not None:
        os.environ["PASSERELLE_CONFIG"] = str(args.config.absolute())
    os.environ.setdefault("VLLM_API_KEY", secrets.token_urlsafe(32))  # nobody reaches the model but through the gateway
    settings = load()
    if args.replicas < 1:
        raise BadSettings(f"--replicas holds {args.replicas}, but must be 1 or more.")
    if settings.tracing.endpoint is not None and not args.otlp_traces_endpoint:
        args.otlp_traces_endpoint = settings.tracing.address()
    if args.once and not args.demo:
        raise BadSettings("--once is for --demo, which asks one question, but --demo was not given.")
    port = _asked_port(args.gateway_port) if args.gateway_port else _free_port(settings.server.port)
    folder = settings.state.directory
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    ports, visible = model_ports(args.port, args.replicas, port), os.environ.get("CUDA_VISIBLE_DEVICES")
    plans = prepare_replicas(options_from(args), ports, say, visible=visible)
    _announce(plans, folder)
    with (
        Replicas(plans, folder=folder, progress=say) as models,
        _gateway(plans, port, folder) as gateway,
    ):
        on_hangup(sys.stdin, lambda: gateway.send_signal(signal.SIGHUP))
        signal.signal(signal.SIGUSR2, lambda _, __: gateway.send_signal(signal.SIGUSR2))
        url, name = f"http://127.0.0.1:{port}", plans[0].served_name
        say(f"gateway ready at {url}/v1, publishing {', '.join((name, *plans[0].adapters))}")
        if args.demo:
            from gateway.commands import demo

            french = demo.show(_child_settings(plans, port), url, name)
            if args.once:
                return 0 if french else 1
        say("Ctrl-C stops everything")
        return _watch(models, gateway)


def _announce(plans: Sequence[Plan], folder: Path) -> None:
    first, several = plans[0], len(plans) > 1
    times = f", {len(plans)} times" if several else ""
    say(
        f"starting vLLM with {first.served_name} on the {first.device}{times}: ready in about {first.expected_seconds} s"
    )
    say(f"its log: {folder / 'model-server.log'}" if not several else f"their logs: {folder / 'model-server-N.log'}")


def say(line: str) -> None:
    """One line of progress."""
    with suppress(OSError):  # a terminal that was closed
        print(f"passerelle: {line}\n", end="", flush=True)  # in one piece: replicas speak from threads of their own


def on_hangup(stdin: TextIO | None, reload: Callable[[], None]) -> None:
    """Have SIGHUP end everything as Ctrl-C does when `stdin` is a terminal that has been closed, and else only `reload`."""
    terminal = stdin if stdin is not None and stdin.isatty() else None

    def hung_up(_: int, __: FrameType | None) -> None:
        if terminal is not None and not terminal.isatty():
            raise KeyboardInterrupt
        reload()

    signal.signal(signal.SIGHUP, hung_up)


def environment(plans: Sequence[Plan], port: int) -> dict[str, str]:
    """What the gateway's process is told on top of its configuration: the local targets, the fallback, the models.

    The plans are those of replicas, alike but for their addresses. An adapter is a target on the same replicas.
    """
    plan = plans[0]
    tokenizer = Path(plan.model) / "tokenizer.json"  # a model that comes from a hub has no folder here
    local: dict[str, Any] = {
        "kind": "vllm",
        "urls": [each.base_url for each in plans],
        "model": plan.served_name,
        "api_key_env": "VLLM_API_KEY",
        "trim_start": True,
        "context_length": plan.context_length,
        "template_tokens": plan.template_tokens,
        "concurrency": plan.sequences,
        "defaults": dict(plan.defaults),
        **({"tokenizer": str(tokenizer.absolute())} if tokenizer.is_file() else {}),
    }
    own = {"local": local, **{f"local-{name}": {**local, "model": name} for name in plan.adapters}}
    fallback = {
        "kind": "openai",
        "urls": [os.environ.get("OPENAI_BASE_URL") or _OPENAI],
        "model": "gpt-3.5-turbo",
        "api_key_env": "OPENAI_API_KEY",
        "outside": True,
        "context_length": 16385,
    }
    models = {target["model"]: {"targets": [name, "gpt-3.5-turbo"]} for name, target in own.items()}
    return {
        "PASSERELLE_TARGETS": json.dumps({**own, "gpt-3.5-turbo": fallback}),
        "PASSERELLE_MODELS": json.dumps(models),
        "PASSERELLE_SERVER__PORT": str(port),
    }


def _child_settings(plans: Sequence[Plan], port: int) -> Settings:
    from gateway.settings import load

    os.environ.update(environment(plans, port))
    return load()


@contextmanager
def _gateway(plans: Sequence[Plan], port: int, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The gateway's process, answering; stopped on the way out."""
    log = folder / "gateway.log"
    say(f"starting the gateway; its log: {log}")
    command = [sys.executable, "-m", "gateway.cli", "gateway"]
    with log.open("ab") as output:
        process = subprocess.Popen(  # noqa: S603  # our own program
            command,
            env={**os.environ, **environment(plans, port)},
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        _wait(process, f"http://127.0.0.1:{port}/readyz", log)
        yield process
    finally:
        process.terminate()
        process.wait()


def _wait(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    from gateway.settings import BadSettings

    deadline = time.monotonic() + _START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=2) as answer:  # noqa: S310  # our own loopback address
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise BadSettings(f"The gateway did not become ready: see the end of {log}.")


def _watch(models: Replicas, gateway: subprocess.Popen[bytes]) -> int:
    try:
        while not models.failed and gateway.poll() is None:
            time.sleep(0.5)
    except KeyboardInterrupt:
        # The same signal often comes twice (make passes it on): a second one must not cut the orderly stop short.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        say("stopping")
        return 0
    failed = "the model server failed" if len(models.servers) == 1 else "all replicas failed"
    say(failed if models.failed else f"the gateway ended with exit code {gateway.returncode}")
    return 1


def model_ports(first: int, number: int, gateway: int) -> list[int]:
    """Ports of the model servers. The default ones may give way, to the gateway's too; ones that were asked for may not."""
    if first != _MODEL_PORT:
        return list(range(first, first + number))
    wanted = [port for port in range(first, first + number + 1) if port != gateway]
    return [_free_port(port) for port in wanted[:number]]


def _asked_port(wanted: int) -> int:
    """The port that was asked for; raises BadSettings before minutes are spent on a model when it is taken."""
    from gateway.settings import BadSettings

    try:
        return _bound(wanted)
    except (OSError, OverflowError) as error:
        reason = error.strerror if isinstance(error, OSError) else "ports are 1 to 65535"
        raise BadSettings(f"--gateway-port holds {wanted}, which cannot be had: {reason}.") from None


def _free_port(wanted: int) -> int:
    """The port, or another one that is free when somebody has it already."""
    try:
        return _bound(wanted)
    except OSError:
        other = _bound(0)
        say(f"port {wanted} is taken, using {other}")
        return other


def _bound(port: int) -> int:
    """The port when it can be bound, for 0 any that can; raises OSError or OverflowError."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))
        return int(probe.getsockname()[1])
