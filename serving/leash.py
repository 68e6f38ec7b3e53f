"""Run a program so that it never outlives whoever started it.

    python leash.py GRACE_SECONDS program argument...

The program gets a process group of its own. When standard input ends (whoever holds the other end closed it, or died, even
by SIGKILL), or the program ends by itself, the group is asked to end and, after the grace, killed: no engine or worker
process stays behind. The exit code is the program's; 128 + signal when a signal ended it.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading


def end_group(group: int, signal_number: int) -> None:
    """Signal every process of the group that is still there."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal_number)


def watch(process: "subprocess.Popen[bytes]", grace: float) -> None:
    """Block until standard input ends, then end the program's group."""
    while os.read(0, 1024):
        pass
    end_group(process.pid, signal.SIGTERM)
    try:
        process.wait(grace)
    except subprocess.TimeoutExpired:
        end_group(process.pid, signal.SIGKILL)


def main(grace: float, command: list[str]) -> int:
    """Run `command` until it ends or standard input does."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # The pipe alone decides, so a stop is never half done. A handler, since the program would inherit SIG_IGN.
        signal.signal(number, lambda number, frame: None)
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True, restore_signals=True)  # noqa: S603
    threading.Thread(target=watch, args=[process, grace], daemon=True).start()
    code = process.wait()
    end_group(process.pid, signal.SIGKILL)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), sys.argv[2:]))
