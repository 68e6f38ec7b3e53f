"""`passerelle gateway`: the gateway's workers alone."""

from __future__ import annotations

import argparse
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gateway.commands.typing import Subparsers

_EXAMPLE = """example:
  passerelle gateway --config passerelle.toml --workers 2
  kill -HUP PID                    read the configuration again; the log says reloaded or reload_refused
"""


def add_command(commands: Subparsers) -> None:
    """Register the command."""
    command = commands.add_parser(
        "gateway",
        help="run the gateway alone",
        description="Runs the gateway until it is told to stop; open streams get their time to end. At SIGHUP the "
        "configuration is read again: targets, models, routing, money and limits change at once, and no stream is dropped.",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("--config", type=Path, metavar="FILE", help="the configuration (default: $PASSERELLE_CONFIG)")
    command.add_argument("--host", help="address to listen on (default: the configuration's, 127.0.0.1)")
    command.add_argument("--port", type=int, help="port to listen on (default: the configuration's, 8000)")
    command.add_argument("--workers", type=int, metavar="N", help="worker processes (default: the configuration's, 1)")
    command.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Serve until a signal; the parts are built by each worker from the environment."""
    # A process that is still starting is not ended by SIGHUP and does not miss it: the signal waits until it is asked for
    # (`gateway.reload`). Set before anything can start a thread or a process: they inherit it.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    import uvicorn

    from gateway import multiprocess
    from gateway.app import create_app
    from gateway.commands.workers import Workers
    from gateway.logs import configure_logging, log_the_unforeseen
    from gateway.settings import load

    # The workers of uvicorn are processes of their own and know only the environment: options travel through it.
    for name in ("host", "port", "workers"):
        if getattr(args, name) is not None:
            os.environ[f"PASSERELLE_SERVER__{name.upper()}"] = str(getattr(args, name))
    if args.config is not None:
        os.environ["PASSERELLE_CONFIG"] = str(args.config.absolute())
    settings = load()
    server = settings.server
    configure_logging()
    log_the_unforeseen()
    # A configuration that cannot work ends here, in one sentence, and not in every worker.
    app = create_app(settings, load)
    options: dict[str, Any] = {
        "host": server.host,
        "port": server.port,
        "loop": "uvloop",
        "http": "httptools",
        "log_config": None,
        "access_log": False,
        "server_header": False,
        "date_header": True,
        # Without it uvicorn believes X-Forwarded-For from 127.0.0.1, so anyone on the machine could choose an address.
        "proxy_headers": bool(server.trusted_proxies),
        "forwarded_allow_ips": ",".join(server.trusted_proxies) or None,
        "timeout_graceful_shutdown": server.shutdown_seconds,
    }
    if server.workers == 1:
        uvicorn.run(app, **options)
    else:
        config = uvicorn.Config("gateway.commands.workers:application", factory=True, workers=server.workers, **options)
        multiprocess.open_folder()  # whichever worker is asked for metrics answers for all
        try:
            Workers(config, [config.bind_socket()]).run()
        finally:
            multiprocess.remove_folder()
    return 0
