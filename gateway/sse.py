"""Server-sent events: bytes of a model server in, events out (WHATWG HTML, section 9.2 "Server-sent events").

The parser works on bytes and never decodes: a character cut in two by a network border stays whole.
"""

from __future__ import annotations

DONE = b"data: [DONE]\n\n"
# A comment: it keeps proxies from closing a silent connection, and no client takes it for an event.
KEEP_ALIVE = b": keep-alive\n\n"

MAX_EVENT_BYTES = 4 * 1024 * 1024


class EventTooLarge(ValueError):
    """An event grew past `MAX_EVENT_BYTES` without its end: the peer is broken or hostile."""


class EventParser:
    """Feeds on chunks cut anywhere, gives the data of each complete event that has any.

    Lines end in LF, CRLF or CR; the space after `data:` is optional; comments, `id:`, `retry:` and events without data
    are swallowed. An event that the end of the stream leaves unfinished is discarded, as the standard says.
    """

    __slots__ = ("_data", "_rest", "_size")

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, chunk: bytes) -> list[bytes]:
        """The data of every event completed by `chunk`, in order."""
        buffer = self._rest + chunk if self._rest else chunk
        if not self._data and (events := self._plain(buffer)) is not None:
            return events
        lines = buffer.splitlines(keepends=True)
        self._rest = lines.pop() if lines and not _complete(lines[-1]) else b""
        events = []
        for line in lines:
            content = line.rstrip(b"\r\n")
            if not content:
                if self._data:
                    events.append(b"\n".join(self._data))
                self._data.clear()
                self._size = 0
            elif content == b"data":
                self._data.append(b"")
            elif content.startswith(b"data:"):
                self._data.append(content[6:] if content[5:6] == b" " else content[5:])
                self._size += len(content)
        if self._size + len(self._rest) > MAX_EVENT_BYTES:
            raise EventTooLarge(f"an event is over {MAX_EVENT_BYTES} bytes")
        return [event for event in events if event]

    def _plain(self, buffer: bytes) -> list[bytes] | None:
        """The same for what model servers write, one line of data an event, ended by LF; None for anything else."""
        if b"\r" in buffer:
            return None
        *whole, rest = buffer.split(b"\n\n")
        events = [piece[6:] for piece in whole if piece.startswith(b"data: ")]
        more = buffer.count(b"\n") - rest.count(b"\n") - 2 * len(whole)  # line breaks within events
        if more or len(events) < len(whole) or len(rest) > MAX_EVENT_BYTES:
            return None
        self._rest = rest
        return events if all(events) else [event for event in events if event]

    def close(self) -> list[bytes]:
        """What the end of the stream completes: only a last line that ended in a lone CR."""
        return self.feed(b"\n") if self._rest.endswith(b"\r") else []


def _complete(line: bytes) -> bool:
    # A lone CR at the end of a chunk may be the first half of a CRLF: wait for what follows.
    return line.endswith(b"\n")


def event(data: bytes) -> bytes:
    """One event as it goes out."""
    return b"data: " + data + b"\n\n"
