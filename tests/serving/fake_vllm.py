"""A stand-in for the model server's process: answers `/health` and chats, and misbehaves on demand.

    python fake_vllm.py --port 8001 [--broken "last words"] [--stubborn] [--green-but-dead]

`POST /die` ends the process at once with exit code 3. It starts a child, as vLLM starts its engine; `GET /child` tells
the child's process id.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

CHILD = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nsignal.pause()"


class Handler(BaseHTTPRequestHandler):
    child = 0
    dead = False

    def do_GET(self) -> None:
        self.reply(200, {"child": self.child})

    def do_POST(self) -> None:
        if self.path == "/die":
            os._exit(3)
        self.rfile.read(int(self.headers["Content-Length"]))
        self.reply(500 if self.dead else 200, {"choices": [{"message": {"content": "Oui"}}]})

    def reply(self, status: int, body: dict[str, object]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        return


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int)
    parser.add_argument("--broken")
    parser.add_argument("--stubborn", action="store_true")
    parser.add_argument("--green-but-dead", action="store_true")
    options = parser.parse_args()
    sys.stdout.write(f"INFO starting, key {os.environ.get('FAKE_SETTING')}\n")
    sys.stdout.flush()
    if options.broken:
        sys.exit(f"Traceback (most recent call last):\n  File x\nValueError: {options.broken}")
    if options.stubborn:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    Handler.child = subprocess.Popen([sys.executable, "-c", CHILD]).pid
    Handler.dead = options.green_but_dead
    ThreadingHTTPServer(("127.0.0.1", options.port), Handler).serve_forever()


if __name__ == "__main__":
    main()
