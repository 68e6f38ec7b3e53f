"""One worker, as its supervisor starts it: `python -m gateway.commands.worker PIPE SOCKET …`, descriptors that it inherits.

Through the pipe it says that it lives (`.`), that it is ready (`ready {…}`), or why it cannot start (`failed …`), a line each.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import signal
import socket
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from gateway.settings import Settings

_PR_SET_PDEATHSIG: Final = 1  # prctl(2)
# New objects, and rounds of the younger ones, between two looks for what refers to itself. A request makes hundreds of objects
# and leaves hardly a cycle: by Python's own (700, 10, 10) a seventh of a worker's time went into looking, 85 ms at once at times.
_OBJECTS: Final = (10_000, 20, 50)


class Pipe:
    """The line to the supervisor."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        os.set_blocking(descriptor, False)
        os.set_inheritable(descriptor, False)

    def say(self, line: str) -> bool:
        """Say one line; a supervisor that does not listen is let be. False: it is gone, which means the end."""
        try:
            os.write(self._descriptor, line.replace("\n", " ").encode() + b"\n")
        except BlockingIOError:
            pass
        except BrokenPipeError:
            return False
        return True


def main(arguments: Sequence[str]) -> int:
    """Serve until told to stop."""
    pipe, *descriptors = map(int, arguments)
    return run(Pipe(pipe), [socket.socket(fileno=descriptor) for descriptor in descriptors])


def run(pipe: Pipe, sockets: list[socket.socket]) -> int:
    """Build the application, serve it on the sockets, and tell the supervisor."""
    _follow_the_supervisor()
    if not pipe.say("."):
        return 1
    _spare()
    from auth.errors import AuthError
    from gateway.app import create_app
    from gateway.commands.preparing import check_addresses, check_folder
    from gateway.commands.server import Grace, Server
    from gateway.logs import configure_logging, log_the_unforeseen
    from gateway.settings import BadSettings, load
    from gateway.stopping import Stopping

    write = configure_logging()
    log_the_unforeseen()
    try:
        settings = load()
        check_addresses(settings.state)
        check_folder(settings.state)
        stopping = Stopping()
        app = create_app(settings, load, stopping, write)
        grace = Grace(settings.server.drain_seconds, settings.server.shutdown_seconds)
        Server(
            uvicorn_config(app, settings),
            stopping,
            grace,
            prepare=lambda: _prepared(settings),
            beat=lambda: pipe.say("."),
            ready=lambda: pipe.say(f"ready {json.dumps(facts(settings))}"),
        ).run(sockets)
    except (BadSettings, AuthError) as error:
        pipe.say(f"failed {error}")
        return 1
    return 0


# structlog takes Rich for tracebacks in colours, which no log of ours has; FastAPI takes the models of Pydantic's first version,
# only to refuse them. Both do without where there is none: 7 MB.
_SPARED: Final = ("rich", "pydantic.v1")


def _spare() -> None:
    """Do without what would be loaded only because it is installed."""
    sys.modules.update(dict.fromkeys(_SPARED))  # type: ignore[arg-type]  # None says that there is no such module


async def _prepared(settings: Settings) -> None:
    """Prepare, and tidy up before anybody is let in.

    What is there now stays: the garbage collector need not look at it ever again. What the modules, the configuration and the
    models took while they were read, the allocator would keep for itself.
    """
    from gateway.commands.preparing import prepare

    await prepare(settings)
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_OBJECTS)
    if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), "malloc_trim"):  # GNU's C library alone has it
        library.malloc_trim(0)


def facts(settings: Settings) -> dict[str, Any]:
    """What the supervisor goes by: it reads no configuration, which may be a newer version's."""
    names = ("host", "port", "workers", "shutdown_seconds", "hang_seconds")
    return {name: getattr(settings.server, name) for name in names}


def _follow_the_supervisor() -> None:
    """It alone hears the terminal. This process is told to stop when it dies, however it dies.

    Nobody could stop or replace a worker then, and a new gateway would find its port taken.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def uvicorn_config(app: Any, settings: Settings) -> Any:
    """How uvicorn serves the application."""
    import uvicorn

    from gateway.commands.connection import Connection

    server = settings.server
    return uvicorn.Config(
        app,
        loop="uvloop",
        http=Connection,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=True,
        # Without it uvicorn believes X-Forwarded-For from 127.0.0.1, so anyone on the machine could choose an address.
        proxy_headers=bool(server.trusted_proxies),
        forwarded_allow_ips=",".join(server.trusted_proxies) or None,
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
