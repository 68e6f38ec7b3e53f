"""`passerelle gateway`: the gateway's workers alone."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.commands.typing import Subparsers

_EXAMPLE = """example:
  passerelle gateway --config passerelle.toml --workers 2
  kill -HUP PID                    read the configuration again; the log says reloaded or reload_refused
  kill -USR2 PID                   new workers, one after another: new code, and every setting; no stream is cut
"""


def add_command(commands: Subparsers) -> None:
    """Register the command."""
    command = commands.add_parser(
        "gateway",
        help="run the gateway alone",
        description="Runs the gateway until it is told to stop; open streams get their time to end. At SIGHUP the "
        "configuration is read again: targets, models, routing, money and limits change at once, and no stream is dropped. At "
        "SIGUSR2 every worker is replaced by a new one that reads everything (docs/upgrades.md).",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("--config", type=Path, metavar="FILE", help="the configuration (default: $PASSERELLE_CONFIG)")
    command.add_argument("--host", help="address to listen on (default: the configuration's, 127.0.0.1)")
    command.add_argument("--port", type=int, help="port to listen on (default: the configuration's, 8000)")
    command.add_argument("--workers", type=int, metavar="N", help="worker processes (default: the configuration's, 1)")
    command.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Read the configuration, bind the address, and become the supervisor of the workers, which know only the environment."""
    from gateway.commands.supervised import HELD, python

    # A process that is still starting is not ended by SIGHUP and does not miss it: the signal waits until it is asked for
    # (`gateway.reload`). Set before anything can start a thread or a process: they inherit it.
    signal.pthread_sigmask(signal.SIG_BLOCK, HELD)
    from gateway import metrics_folder
    from gateway.commands.binding import bind
    from gateway.commands.worker import facts
    from gateway.settings import BadSettings, load

    for name in ("host", "port", "workers"):
        if getattr(args, name) is not None:
            os.environ[f"PASSERELLE_SERVER__{name.upper()}"] = str(getattr(args, name))
    if args.config is not None:
        os.environ["PASSERELLE_CONFIG"] = str(args.config.absolute())
    settings = load()
    settings.require_models()
    sockets = bind(settings.server.host, settings.server.port)
    try:
        metrics_folder.open_folder()  # whichever worker is asked for metrics answers for all, also for those before it
    except OSError as error:
        raise BadSettings(
            f"TMPDIR holds no folder for the metrics of the workers ({error.strerror}): mount a writable /tmp, or set TMPDIR."
        ) from None
    # Another program in this process's place: what was imported to read the configuration costs three times as much memory.
    command = [*python(), "-m", "gateway.commands.workers", json.dumps(facts(settings))]
    sys.stderr.flush()
    os.execv(sys.executable, [*command, *(str(each.fileno()) for each in sockets)])  # noqa: S606  # our own program
