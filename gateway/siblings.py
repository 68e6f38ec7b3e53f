"""The workers of one installation ask one another: each listens on a socket of its own in the state directory.

A file would be old, and written though nobody asks; a socket is gone with its process, and shows which worker hangs. Whoever may
open it may read the state directory, so nobody is asked who he is.
"""

from __future__ import annotations

import asyncio
import os
import socket
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple, Self

import structlog

log = structlog.get_logger()

_SECONDS: Final = 1.0  # within which a worker answers; one that hangs does not hold up the answer of the others
_QUESTION_BYTES: Final = 4096
_ANSWER_BYTES: Final = 4 * 1024 * 1024
_MOST: Final = 256  # workers, as the settings allow
_PATH_BYTES: Final = 100  # sun_path holds 108 (unix(7))

Answer = Callable[[bytes], Awaitable[bytes]]


class Heard(NamedTuple):
    """What the other workers say, and how many of them are there and say nothing."""

    answers: list[bytes]
    silent: int


class Siblings:
    """A context in which this worker answers the others. Where it cannot have a socket it works alone."""

    def __init__(self, folder: Path) -> None:
        """`folder` is the state directory; nothing is written before the context begins."""
        self._folder = folder / "workers"
        self._name = f"{uuid.uuid4().hex}.sock"
        self._answers: dict[bytes, Answer] = {}
        self._server: asyncio.Server | None = None

    def answer(self, word: bytes, by: Answer) -> None:
        """Have questions that begin with `word` answered; `by` is given the rest of the line."""
        self._answers[word] = by

    async def __aenter__(self) -> Self:
        try:
            listener = self._listener()
        except OSError as error:
            log.warning("siblings_unheard", reason=error.strerror or type(error).__name__)
        else:
            self._server = await asyncio.start_unix_server(self._serve, sock=listener, limit=_QUESTION_BYTES)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()
            (self._folder / self._name).unlink(missing_ok=True)

    async def ask(self, word: bytes, rest: bytes = b"") -> Heard:
        """Put a question, one line, to all the others at once."""
        names = [name for name in self._names() if name != self._name]
        answers = await asyncio.gather(*(self._asked(name, word + b" " + rest + b"\n") for name in names[:_MOST]))
        given = [answer for answer in answers if answer]
        return Heard(given, sum(answer is None for answer in answers))

    def _names(self) -> list[str]:
        try:
            return sorted(path.name for path in self._folder.glob("*.sock"))
        except OSError:
            return []

    async def _asked(self, name: str, question: bytes) -> bytes | None:
        """The answer; empty where nobody is there any longer, None where somebody is and does not answer."""
        path = self._folder / name
        writer = None
        try:
            async with asyncio.timeout(_SECONDS):
                with short_name(path) as short:
                    reader, writer = await asyncio.open_unix_connection(short, limit=_ANSWER_BYTES)
                writer.write(question)
                answer = await reader.readuntil(b"\n")
        except ConnectionRefusedError:  # its process was killed
            with suppress(OSError):
                path.unlink()
            return b""
        except FileNotFoundError:
            return b""
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            return None
        finally:
            if writer is not None:
                writer.close()
        return answer

    def _listener(self) -> socket.socket:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        being_made = self._folder / f"{self._name}.new"
        try:
            with short_name(being_made) as short:
                listener.bind(short)
            being_made.chmod(0o600)
            listener.listen()
            being_made.rename(self._folder / self._name)  # from here on it is found, and answers
        except OSError:
            listener.close()
            being_made.unlink(missing_ok=True)
            raise
        return listener

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_SECONDS):
                question = await reader.readuntil(b"\n")
            word, _, rest = question.rstrip(b"\n").partition(b" ")
            if (by := self._answers.get(word)) is not None:
                writer.write(await by(rest) + b"\n")
                await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # whoever asked has left
        finally:
            writer.close()


@contextmanager
def short_name(path: Path) -> Iterator[str]:
    """A name for `path` that is short enough for a socket, however deep its folder lies."""
    if len(os.fsencode(path)) < _PATH_BYTES:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
