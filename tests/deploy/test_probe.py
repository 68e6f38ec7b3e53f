"""The health checks' script, run as the containers run it, against real servers."""

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.deploy.document import BASE, ROOT, load

KEY = "cle"


@contextlib.contextmanager
def answering(statuses: dict[str, int]) -> Iterator[str]:
    """A server that answers each path with its status; a chat needs the key and a question of one token."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(statuses.get(self.path, 404))
            self.end_headers()

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
            right = self.headers["authorization"] == f"Bearer {KEY}" and asked["max_tokens"] == 1
            known = asked["model"] == "falcon-7b-instruct"
            self.send_response(401 if not right else statuses[self.path] if known else 404)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class's name
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def check(service: str, address: str, key: str = KEY) -> subprocess.CompletedProcess[str]:
    """Run the healthcheck of a service, its script and address those of this machine."""
    words = load(BASE)["services"][service]["healthcheck"]["test"][2:]
    words = [str(word).replace("127.0.0.1:8000", address) for word in words]
    proxies = {"http_proxy": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9"}
    return subprocess.run(
        [sys.executable, "-I", ROOT / "deploy" / "probe.py", *words[1:]],
        env=os.environ | proxies | {"VLLM_API_KEY": key},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1), (404, 1), (204, 1)])
def test_the_gateway_is_healthy_when_it_says_it_is_ready(status: int, code: int) -> None:
    with answering({"/readyz": status}) as address:
        done = check("gateway-a", address)
    assert done.returncode == code
    assert bool(done.stderr) is bool(code)


@pytest.mark.parametrize(
    ("health", "chat", "key", "code"),
    [(200, 200, KEY, 0), (200, 500, KEY, 1), (503, 200, KEY, 1), (200, 200, "autre", 1)],
)
def test_the_model_server_is_healthy_when_it_answers_with_a_token(health: int, chat: int, key: str, code: int) -> None:
    with answering({"/health": health, "/v1/chat/completions": chat}) as address:
        assert check("vllm", address, key).returncode == code


def test_a_server_that_is_not_there_is_told_in_one_sentence() -> None:
    done = check("gateway-a", "127.0.0.1:9")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
