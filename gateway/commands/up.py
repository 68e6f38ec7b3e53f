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
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from gateway.commands.typing import Subparsers
    from gateway.settings import Settings
    from serving.plan import Plan

_EXAMPLE = """examples:
  passerelle up                                      serve until Ctrl-C
  passerelle up --demo                               the same, with a demo user and one question asked
  passerelle up --model tiiuae/falcon-7b-instruct    another model; fetched from its hub
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
        "again; a closed terminal stops everything.",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_serving_options(command)
    command.add_argument("--config", type=Path, metavar="FILE", help="more configuration (default: $PASSERELLE_CONFIG)")
    command.add_argument("--gateway-port", type=int, help="the gateway's port (default: the configuration's, 8000)")
    command.add_argument(
        "--demo", action="store_true", help="make a demo user, ask one French question, show what happened"
    )
    command.add_argument(
        "--once", action="store_true", help="with --demo: stop after the answer; exit code 0 if it is French"
    )
    command.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Start everything in order, stay until Ctrl-C, SIGTERM or the death of a part; stop it in reverse order."""
    from gateway.settings import load
    from serving.commands import options_from
    from serving.prepare import prepare
    from serving.server import ModelServer

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    on_hangup(sys.stdin, lambda: None)  # the gateway reads the configuration when it starts
    if args.config is not None:
        os.environ["PASSERELLE_CONFIG"] = str(args.config.absolute())
    os.environ.setdefault("VLLM_API_KEY", secrets.token_urlsafe(32))  # nobody reaches the model but through the gateway
    settings = load()
    if settings.tracing.endpoint is not None and not args.otlp_traces_endpoint:
        args.otlp_traces_endpoint = settings.tracing.address()
    port = args.gateway_port or _free_port(settings.server.port)
    if args.port == _MODEL_PORT:  # the default may give way; a port that was asked for may not
        args.port = _free_port(args.port)
    folder = settings.state.directory
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    plan = prepare(options_from(args), say)
    say(f"starting vLLM with {plan.served_name} on the {plan.device}: ready in about {plan.expected_seconds} s")
    say(f"its log: {folder / 'model-server.log'}")
    with (
        ModelServer(plan, log=folder / "model-server.log", progress=say) as model,
        _gateway(plan, port, folder) as gateway,
    ):
        on_hangup(sys.stdin, lambda: gateway.send_signal(signal.SIGHUP))
        url = f"http://127.0.0.1:{port}"
        say(f"gateway ready at {url}/v1, publishing {plan.served_name}")
        if args.demo:
            from gateway.commands import demo

            french = demo.show(_child_settings(plan, port), url, plan.served_name)
            if args.once:
                return 0 if french else 1
        say("Ctrl-C stops everything")
        return _watch(lambda: model.state == "failed", gateway)


def say(line: str) -> None:
    """One line of progress."""
    with suppress(OSError):  # a terminal that was closed
        print(f"passerelle: {line}", flush=True)


def on_hangup(stdin: TextIO | None, reload: Callable[[], None]) -> None:
    """Have SIGHUP end everything as Ctrl-C does when `stdin` is a terminal that has been closed, and else only `reload`."""
    terminal = stdin if stdin is not None and stdin.isatty() else None

    def hung_up(_: int, __: FrameType | None) -> None:
        if terminal is not None and not terminal.isatty():
            raise KeyboardInterrupt
        reload()

    signal.signal(signal.SIGHUP, hung_up)


def environment(plan: Plan, port: int) -> dict[str, str]:
    """What the gateway's process is told on top of its configuration: the local target, the fallback, the model."""
    tokenizer = Path(plan.model) / "tokenizer.json"  # a model that comes from a hub has no folder here
    targets: dict[str, Any] = {
        "local": {
            "kind": "vllm",
            "urls": [plan.base_url],
            "model": plan.served_name,
            "api_key_env": "VLLM_API_KEY",
            "trim_start": True,
            "context_length": plan.context_length,
            "template_tokens": plan.template_tokens,
            "defaults": dict(plan.defaults),
            **({"tokenizer": str(tokenizer.absolute())} if tokenizer.is_file() else {}),
        },
        "gpt-3.5-turbo": {
            "kind": "openai",
            "urls": [os.environ.get("OPENAI_BASE_URL") or _OPENAI],
            "model": "gpt-3.5-turbo",
            "api_key_env": "OPENAI_API_KEY",
            "outside": True,
            "context_length": 16385,
        },
    }
    models = {plan.served_name: {"targets": list(targets)}}
    return {
        "PASSERELLE_TARGETS": json.dumps(targets),
        "PASSERELLE_MODELS": json.dumps(models),
        "PASSERELLE_SERVER__PORT": str(port),
    }


def _child_settings(plan: Plan, port: int) -> Settings:
    from gateway.settings import load

    os.environ.update(environment(plan, port))
    return load()


@contextmanager
def _gateway(plan: Plan, port: int, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The gateway's process, answering; stopped on the way out."""
    log = folder / "gateway.log"
    say(f"starting the gateway; its log: {log}")
    command = [sys.executable, "-m", "gateway.cli", "gateway"]
    with log.open("ab") as output:
        process = subprocess.Popen(  # noqa: S603  # our own program
            command, env={**os.environ, **environment(plan, port)}, stdout=output, stderr=output, start_new_session=True
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


def _watch(model_failed: Callable[[], bool], gateway: subprocess.Popen[bytes]) -> int:
    try:
        while not model_failed() and gateway.poll() is None:
            time.sleep(0.5)
    except KeyboardInterrupt:
        # The same signal often comes twice (make passes it on): a second one must not cut the orderly stop short.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        say("stopping")
        return 0
    say("the model server failed" if model_failed() else f"the gateway ended with exit code {gateway.returncode}")
    return 1


def _free_port(wanted: int) -> int:
    """The port, or another one that is free when somebody has it already."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError:
            probe.bind(("127.0.0.1", 0))
            say(f"port {wanted} is taken, using {probe.getsockname()[1]}")
        return int(probe.getsockname()[1])
