"""Plain HTTP to a server on this machine."""

import http.client
import json
from typing import Any


def call(port: int, path: str, body: dict[str, Any] | None = None) -> tuple[int, str]:
    """GET `path`, or POST `body` to it; the status and the whole text of the reply."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        data = None if body is None else json.dumps(body).encode()
        connection.request("GET" if data is None else "POST", path, data, {"Content-Type": "application/json"})
        reply = connection.getresponse()
        return reply.status, reply.read().decode()
    finally:
        connection.close()
