"""A scripted model server on a loopback port: each request is answered by a function that writes what it likes.

It speaks just enough HTTP/1.1, and can do what a real server does only on a bad day: fall silent, cut, send half a character.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Exchange:
    """One request as it came, and the means to answer it. `closed` is set when the peer has closed the connection."""

    headers: dict[str, str]
    body: dict[str, Any]
    _writer: asyncio.StreamWriter
    closed: asyncio.Event = field(default_factory=asyncio.Event)

    async def head(self, status: int = 200, content_type: str = "text/event-stream", **headers: str) -> None:
        """Status line and headers of an answer in chunks."""
        lines = [f"HTTP/1.1 {status} X", f"content-type: {content_type}", "transfer-encoding: chunked"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self._writer.write("\r\n".join([*lines, "", ""]).encode())

    async def send(self, data: bytes) -> None:
        """One chunk of the body."""
        if data:
            self._writer.write(b"%x\r\n%b\r\n" % (len(data), data))
            await self._writer.drain()

    async def event(self, data: object) -> None:
        """One server-sent event."""
        text = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)
        await self.send(f"data: {text}\n\n".encode())

    async def text(self, *texts: str, index: int = 0) -> None:
        """Content chunks."""
        for text in texts:
            await self.event(chunk({"content": text}, index=index))

    async def end(self) -> None:
        """The end of the body."""
        self._writer.write(b"0\r\n\r\n")
        await self._writer.drain()

    def hang_up(self) -> None:
        """Close the connection in mid-answer, in order: what was sent arrives."""
        self._writer.close()

    def cut(self) -> None:
        """Drop the connection here."""
        self._writer.transport.abort()


Script = Callable[[Exchange], Awaitable[None]]


def chunk(delta: dict[str, Any], *, index: int = 0, finish: str | None = None, **more: Any) -> dict[str, Any]:
    """A chat completion chunk as vLLM sends it."""
    choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish, **more}
    return {"id": "up-1", "object": "chat.completion.chunk", "created": 1, "model": "up", "choices": [choice]}


def usage(prompt: int, completion: int) -> dict[str, Any]:
    """A usage chunk."""
    counts = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    return {**chunk({}), "choices": [], "usage": counts}


def says(*texts: str, finish: str = "stop", prompt: int = 7, pause: float = 0.0) -> Script:
    """A whole answer, one token a text, with usage; `pause` seconds after each token, or all at once."""

    async def script(exchange: Exchange) -> None:
        await exchange.head()
        await exchange.event(chunk({"role": "assistant", "content": ""}))
        for text in texts:
            await exchange.text(text)
            if pause:
                await asyncio.sleep(pause)
        await exchange.event(chunk({}, finish=finish))
        await exchange.event(usage(prompt, len(texts)))
        await exchange.event("[DONE]")
        await exchange.end()

    return script


def pauses(released: asyncio.Event) -> Script:
    """An answer that goes on when it is released, without usage."""

    async def script(exchange: Exchange) -> None:
        await exchange.head()
        await exchange.text("Le début, ")
        await released.wait()
        await exchange.text("et la fin.")
        await exchange.event(chunk({}, finish="stop"))
        await exchange.event("[DONE]")
        await exchange.end()

    return script


def refuses(status: int, body: object = None, **headers: str) -> Script:
    """An answer that is no stream: a JSON body, or HTML when it is a string."""

    async def script(exchange: Exchange) -> None:
        html = isinstance(body, str)
        await exchange.head(status, "text/html" if html else "application/json", **headers)
        await exchange.send(body.encode() if isinstance(body, str) else json.dumps(body or {}).encode())
        await exchange.end()

    return script


class Upstream:
    """What was asked, and what to answer: scripts in turn, the last one for ever."""

    def __init__(self) -> None:
        self.url = ""
        self.asked: list[Exchange] = []
        self._writers: set[asyncio.StreamWriter] = set()
        self._scripts: list[Script] = [says("Voici une réponse tout à fait française. ", "Merci de votre patience.")]

    def answers(self, *scripts: Script) -> None:
        """Set the scripts."""
        self._scripts = list(scripts)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while await self._exchange(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    def close(self) -> None:
        """Drop every connection."""
        for writer in self._writers:
            writer.transport.abort()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        headers = {
            name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:] if line)
        }
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        exchange = Exchange(headers, json.loads(body or b"{}"), writer)
        if lines[0].startswith("GET"):
            await refuses(200, {"object": "list", "data": []})(exchange)
            return True
        script = self._scripts[min(len(self.asked), len(self._scripts) - 1)]
        self.asked.append(exchange)
        watching = asyncio.create_task(self._watch(reader, exchange))
        answering = asyncio.ensure_future(script(exchange))
        try:
            await asyncio.wait({watching, answering}, return_when=asyncio.FIRST_COMPLETED)
            if answering.done():
                answering.result()
            return not exchange.closed.is_set() and not writer.is_closing()
        finally:
            answering.cancel()
            watching.cancel()
            await asyncio.wait({watching, answering})

    async def _watch(self, reader: asyncio.StreamReader, exchange: Exchange) -> None:
        # Until it has its answer a client sends nothing more, so the end of its stream is all there is to see.
        # Looked at, not read: a byte taken here would be missing from the next request of a kept connection.
        while not reader.at_eof():  # noqa: ASYNC110  # a StreamReader has no event for its end
            await asyncio.sleep(0.01)
        exchange.closed.set()


@asynccontextmanager
async def upstream(port: int = 0) -> AsyncIterator[Upstream]:
    """A running fake, on any port unless told which; its `url` ends in /v1."""
    fake = Upstream()
    server = await asyncio.start_server(fake._serve, "127.0.0.1", port, limit=1 << 22)
    fake.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    try:
        yield fake
    finally:
        server.close()
        fake.close()
        await server.wait_closed()
