"""`python listening.py PORT PIDFILE SECONDS`: returns when 127.0.0.1:PORT takes connections, fails if the process ends first."""

import socket
import sys
import time
from pathlib import Path


def wait(port: int, pid_file: Path, seconds: float) -> str | None:
    """None once the port is open, or else what went wrong."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not pid_file.exists():  # made before the process, taken away after it
            return "the process has ended"
        with socket.socket() as probe:
            probe.settimeout(1)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return None
        time.sleep(0.02)
    return f"nothing listens after {seconds:g} s"


if __name__ == "__main__":
    problem = wait(int(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]))
    sys.exit(problem and f"port {sys.argv[1]}: {problem}")
