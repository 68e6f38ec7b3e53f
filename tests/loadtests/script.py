"""A chat server that answers by a script, on a loopback port: what a load run reports can be compared with what was done."""

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

USER, PASSWORD = "charge", "mot de passe assez long"
FIRST, BETWEEN, TOKENS = 0.3, 0.05, 5  # seconds, seconds, pieces of content
TAIL = 0.2  # seconds between the last content and [DONE]


@dataclass
class Script:
    """`ending` of a stream: done, cut (no [DONE]), error (an error event after the first content), or a status.

    `expires_in` is the life of a token in seconds; `logins` and `requests` are what the server has seen.
    """

    ending: str = "done"
    expires_in: float = 900
    logins: int = 0
    requests: list[dict[str, Any]] = field(default_factory=list)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, script: Script) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.script = script


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        self._json(200, {"object": "list", "data": [{"id": "perroquet", "object": "model"}]})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        script = self.server.script
        if self.path == "/auth/token":
            script.logins += 1
            right = body == f"grant_type=password&username={USER}&password={PASSWORD.replace(' ', '+')}".encode()
            granted = {"access_token": "jeton", "token_type": "bearer", "expires_in": script.expires_in}
            return self._json(200, granted) if right else self._json(400, {"error": "invalid_grant"})
        if self.headers["authorization"] != "Bearer jeton":
            return self._json(
                401, {"error": {"message": "Non.", "type": "invalid_request_error", "code": "invalid_api_key"}}
            )
        asked = json.loads(body)
        script.requests.append(asked)
        if script.ending.isdigit():
            return self._json(
                int(script.ending), {"error": {"message": "Trop.", "type": "requests", "code": "slow_down"}}
            )
        return self._stream() if asked["stream"] else self._json(200, {"choices": [{"message": {"content": "Voilà."}}]})

    def _stream(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        self._event({"choices": [{"delta": {"role": "assistant", "content": ""}}]})
        time.sleep(FIRST / 2)
        self._write(b": keep-alive\r\n\r\n")
        time.sleep(FIRST / 2)
        for number in range(TOKENS):
            if number:
                time.sleep(BETWEEN)
            self._event({"choices": [{"delta": {"content": f"mot {number} "}}]})
            if self.server.script.ending == "error":
                self._event({"error": {"message": "Perdu.", "type": "server_error", "code": "upstream_lost"}})
                break
        time.sleep(TAIL)
        self._event({"choices": [{"delta": {}, "finish_reason": "stop"}]})
        self._event({"choices": [], "usage": {"completion_tokens": TOKENS}})
        if self.server.script.ending == "done":
            self._write(b"data:[DONE]\n\n")
        self._write(b"")

    def _event(self, chunk: dict[str, Any]) -> None:
        self._write(b"data: " + json.dumps(chunk).encode() + b"\r\n\r\n")

    def _write(self, data: bytes) -> None:
        with contextlib.suppress(ConnectionError):  # the client has left
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
            self.wfile.flush()

    def _json(self, status: int, value: dict[str, Any]) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class's name
        """Say nothing: the figures are what matters."""


@contextlib.contextmanager
def serving(script: Script) -> Iterator[str]:
    """The base URL of a server that follows `script`."""
    server = _Server(script)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
