"""Server-sent events out of lines (WHATWG HTML, section 9.2), as tolerant as a browser."""

from __future__ import annotations

from collections.abc import Iterable, Iterator


def events(lines: Iterable[bytes]) -> Iterator[bytes]:
    """The data of each event, the moment its empty line arrives.

    Lines end in LF or CRLF; the space after `data:` is optional; comments, other fields and events without data are passed
    over; what the end of the stream leaves unfinished is dropped.
    """
    data: list[bytes] = []
    for line in lines:
        content = line.rstrip(b"\r\n")
        if content.startswith(b"data:"):
            data.append(content[5:].removeprefix(b" "))
        elif not content and data:
            yield b"\n".join(data)
            data.clear()
