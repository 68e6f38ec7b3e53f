"""The sockets the gateway listens on, bound before anything is started."""

from __future__ import annotations

import socket
from contextlib import suppress
from errno import EACCES, EADDRINUSE, EADDRNOTAVAIL
from typing import Final

from gateway.settings import BadSettings

_BACKLOG: Final = 2048
_NEXT_STEP: Final = {
    EADDRINUSE: "server.port holds {port}, which another program has on {host}: stop that one, or choose another port.",
    EACCES: "server.port holds {port}, which only root may listen on: choose one of 1024 or above.",
    EADDRNOTAVAIL: "server.host holds {host!r}, which is no address of this machine: 127.0.0.1 is, and 0.0.0.0 is all it has.",
}


def bind(host: str, port: int) -> list[socket.socket]:
    """Listen at every address that `host` stands for; raises BadSettings."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as error:
        said = getattr(error, "strerror", None) or "it is no name"
        raise BadSettings(f"server.host holds {host!r}, which is no address of this machine: {said}.") from None
    addresses = list(dict.fromkeys((family, address) for family, _, _, _, address in found))
    sockets: list[socket.socket] = []
    for family, address in addresses:
        try:
            sockets.append(_listening(family, address, alone=len(addresses) == 1))
        except OSError as error:
            if error.errno == EADDRNOTAVAIL and sockets:  # `localhost` may name an IPv6 address that is switched off
                continue
            for bound in sockets:
                bound.close()
            told = _NEXT_STEP.get(
                error.errno or 0, "server.host holds {host!r}, which cannot be listened on: {reason}."
            )
            raise BadSettings(told.format(host=host, port=port, reason=error.strerror)) from None
    return sockets


def _listening(family: int, address: tuple[object, ...], *, alone: bool) -> socket.socket:
    # With the protocol named: event loops send small packets at once (TCP_NODELAY) on such sockets only.
    made = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            with suppress(OSError):
                made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not alone)
        made.bind(address)
        made.listen(_BACKLOG)
    except OSError:
        made.close()
        raise
    made.set_inheritable(True)
    return made
