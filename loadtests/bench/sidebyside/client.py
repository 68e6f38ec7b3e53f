"""A caller's connection: sends requests that lie ready as bytes, and reads each answer to its end."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from typing import cast
from urllib.parse import urlsplit

from loadtests.bench.questions import QUESTIONS
from loadtests.bench.sidebyside.answers import FIRST, LAST

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"transfer-encoding: *chunked", re.IGNORECASE)
_END = b"\r\n0\r\n\r\n"
_SYSTEM = "Tu es l'assistant d'une plateforme d'avis. Tu réponds brièvement et poliment, sans jamais inventer de fait."


def requests(url: str, headers: Mapping[str, str], count: int, *, stream: bool) -> Iterator[bytes]:
    """The questions of the load tests in turn, for ever, as HTTP requests for answers of `count` tokens."""
    address, made = urlsplit(url).netloc, []
    said = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    for question in QUESTIONS:
        messages = [{"role": "system", "content": _SYSTEM}, {"role": "user", "content": question}]
        asked = {"model": "m", "messages": messages, "max_tokens": count, "stream": stream}
        body = json.dumps(asked, ensure_ascii=False).encode()
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\n"
            f"{said}content-length: {len(body)}\r\n\r\n"
        )
        made.append(head.encode() + body)
    return itertools.cycle(made)


def wrong(answer: bytes) -> str:
    """What is wrong with an answer; empty when nothing is: it is the fake's, whole."""
    if answer.startswith(b"HTTP/1.1 200") and FIRST in answer and LAST in answer:
        return ""
    return answer[:400].decode(errors="replace")


class Caller(asyncio.Protocol):
    """One connection. `done(caller, problem)` is called after each answer, and when the connection is lost in between.

    `began` is when the request was sent, `first` when the answer's first word came, `ended` when all of it was there
    (seconds of time.perf_counter; `first` is kept only if `watching`).
    """

    def __init__(self, done: Callable[[Caller, str], None], *, watching: bool = False) -> None:
        self._done, self._watching = done, watching
        self._parts: list[bytes] = []
        self._left, self._tail = (
            -1,
            b"",
        )  # bytes still to come; -1: the head is not whole, -2: the answer comes in chunks
        self.busy = self.lost = False
        self.began = self.first = self.ended = 0.0
        self.transport = cast("asyncio.Transport", None)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell, if an answer was under way."""
        self.lost = True
        if self.busy:
            self.busy = False
            self._done(self, f"connection lost: {exc or 'closed'}")

    def ask(self, request: bytes) -> None:
        """Send a request; there is none under way."""
        self._parts, self._left, self._tail = [], -1, b""
        self.busy, self.first = True, 0.0
        self.began = time.perf_counter()
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        """Gather the answer, and see its end."""
        if not self.busy:
            return
        self._parts.append(data)
        if self._watching and not self.first and FIRST in b"".join(self._parts):
            self.first = time.perf_counter()
        if self._left == -1:
            data = self._head()
        if self._left >= 0:
            self._left -= len(data)
            over = self._left <= 0
        else:
            self._tail = data[-7:] if len(data) >= 7 else (self._tail + data)[-7:]
            over = self._left == -2 and self._tail == _END
        if over:
            self.ended = time.perf_counter()
            self.busy = False
            self._done(self, wrong(b"".join(self._parts)))

    def _head(self) -> bytes:
        """Read the head if it is there; what came after it."""
        buffer = b"".join(self._parts)
        end = buffer.find(b"\r\n\r\n")
        if end < 0:
            return b""
        if length := _LENGTH.search(buffer, 0, end):
            self._left = int(length[1])
        elif _CHUNKED.search(buffer, 0, end):
            self._left = -2
        else:
            self._left = 0
        # The end of the head stays before the body: an empty body in chunks ends as others do.
        return buffer[end + 4 :] if self._left >= 0 else buffer[end + 2 :]


async def connect(url: str, done: Callable[[Caller, str], None], *, watching: bool = False) -> Caller:
    """A connected caller."""
    host, _, port = urlsplit(url).netloc.partition(":")
    _, caller = await asyncio.get_running_loop().create_connection(
        lambda: Caller(done, watching=watching), host, int(port)
    )
    return caller
