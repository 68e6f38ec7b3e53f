"""`passerelle top` in a terminal: what appears, changes, and is put back at the end."""

import asyncio
import errno
import fcntl
import os
import pty
import re
import signal
import struct
import termios
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from auth.passwords import CHEAPEST, Passwords
from auth.principal import HOUSE, scopes_of
from auth.store import UserStore
from tests.gateway.test_status import FRENCH, LOOSE, ROOT, SECRET, Held, ask, under_way
from tests.gateway.test_top import FAST, started
from tests.house import MODEL, House, house
from tests.upstream import says
from tests.vllm_server import free_port

HOME = "\x1b[H"  # begins each frame


class Terminal:
    """A pseudo-terminal with the command in it, and all that came out."""

    def __init__(self, columns: int = 120, lines: int = 40) -> None:
        self.ours, self.theirs = pty.openpty()
        self.resize(columns, lines)
        self.before = termios.tcgetattr(self.theirs)
        self.written = ""
        self._more = asyncio.Event()
        asyncio.get_running_loop().add_reader(self.ours, self._read)

    def _read(self) -> None:
        try:
            self.written += os.read(self.ours, 65_536).decode(errors="replace")
        except OSError as error:
            if error.errno != errno.EIO:
                raise
        self._more.set()

    def resize(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self.theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def type(self, keys: str) -> None:
        os.write(self.ours, keys.encode())

    async def shows(self, seen: str | Callable[[str], bool], after: int = 0) -> str:
        """Wait for a text, or a whole screen, that comes after so many characters; all that came since then."""
        matches = (lambda text: seen in text) if isinstance(seen, str) else seen
        async with asyncio.timeout(30):
            while not matches(text := plain(self.written[after:])):
                self._more.clear()
                await self._more.wait()
        return text

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self.ours)
        os.close(self.ours)
        os.close(self.theirs)


def plain(text: str) -> str:
    """Without what steers the terminal."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


@asynccontextmanager
async def in_terminal(
    *words: str, size: tuple[int, int] = (120, 40), **options: Any
) -> AsyncIterator[tuple[Terminal, Process]]:
    terminal = Terminal(*size)
    process = await started(
        *words,
        **options,
        stdin=terminal.theirs,
        stdout=terminal.theirs,
        stderr=terminal.theirs,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # so that Ctrl-C is a signal
        environment={"TERM": "xterm-256color"},
    )
    try:
        yield terminal, process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        terminal.close()


def restored(terminal: Terminal) -> None:
    """The terminal is as it was: its modes, its screen, its cursor."""
    assert termios.tcgetattr(terminal.theirs) == terminal.before
    assert terminal.written.rindex("\x1b[?1049l") > terminal.written.rindex("\x1b[?1049h")
    assert terminal.written.rindex("\x1b[?25h") > terminal.written.rindex("\x1b[?25l")


async def test_the_table_appears_changes_and_q_leaves_the_terminal_as_it_was(tmp_path: Path) -> None:
    async with house(tmp_path, times=LOOSE, limits={"requests_per_minute": 50}) as home:
        held = Held()
        home.local.answers(held)
        async with in_terminal("--url", home.url, *FAST, token=home.token(**ROOT)) as (terminal, process):
            await terminal.shows("no request is under way")
            async with under_way(held, [ask(home.client(), stream=False)]):
                text = await terminal.shows("1 under way, 1 shown", len(terminal.written))
                assert "asked" in text
                assert re.search(r"local/0 .*closed .*up", text)
            before = len(terminal.written)
            await terminal.shows("no request is under way", before)
            terminal.type("x")  # no key of ours
            terminal.type("q")
            assert await asyncio.wait_for(process.wait(), 10) == 0
            restored(terminal)
            assert "x" not in plain(terminal.written)[-3:]
            assert SECRET not in terminal.written


@pytest.mark.parametrize("size", [(80, 24), (60, 24)])
async def test_a_small_terminal_shows_what_matters_whole(tmp_path: Path, size: tuple[int, int]) -> None:
    limits = {"requests_per_minute": 50}
    async with house(tmp_path, times=LOOSE, limits=limits) as home:
        held = Held()
        home.local.answers(says(FRENCH), held)
        await ask(home.client())
        words = ("--url", home.url, *FAST)
        async with (
            under_way(held, [ask(home.client())]),
            in_terminal(*words, size=size, token=home.token(**ROOT)) as at,
        ):
            await at[0].shows("1 under way, 1 shown")
            frame = plain(at[0].written.rpartition(HOME)[2]).replace("\r", "")
            assert max(map(len, frame.split("\n"))) == size[0]
            assert "French (1 min) 100%" in frame  # of before the first look
            assert re.search(r"1 of 1\b", frame)
            assert re.search(rf"local +{MODEL} +1 +0 +256", frame)
            assert re.search(r"local/0 +.*closed +up", frame)
            assert re.search(r"user +alice .*requests/min", frame)
            assert re.search(rf"acme +{MODEL} +.*asked +\d", frame)


@pytest.mark.parametrize("how", ["ctrl-c", "sigterm"])
async def test_however_it_is_ended_the_terminal_is_as_it_was(home: House, how: str) -> None:
    async with in_terminal("--url", home.url, *FAST, token=home.token(**ROOT)) as (terminal, process):
        await terminal.shows("no request is under way")
        assert termios.tcgetattr(terminal.theirs) != terminal.before
        if how == "ctrl-c":
            terminal.type("\x03")
        else:
            process.send_signal(signal.SIGTERM)
        code = await asyncio.wait_for(process.wait(), 10)
        assert code == (0 if how == "ctrl-c" else 128 + signal.SIGTERM)
        restored(terminal)
        assert "Traceback" not in terminal.written


async def test_it_follows_the_size_of_the_terminal(home: House) -> None:
    async with in_terminal("--url", home.url, "--every", "60", token=home.token(**ROOT)) as (terminal, _):
        await terminal.shows("no request is under way")
        terminal.resize(50, 12)

        def fits(_: str) -> bool:
            frame = plain(terminal.written.rpartition(HOME)[2]).replace("\r", "").split("\n")
            return (len(frame), max(map(len, frame))) == (12, 50) and "gateway" in frame[0]

        await terminal.shows(fits)


async def test_it_waits_for_a_gateway_that_is_away_and_says_since_when(tmp_path: Path) -> None:
    port = free_port()
    async with house(tmp_path) as home:  # its token is needed
        words = ("--url", f"http://127.0.0.1:{port}", *FAST)
        async with in_terminal(*words, token=home.token(**ROOT)) as (terminal, process):
            await terminal.shows(lambda text: bool(re.search(r"away since \d\d:\d\d:\d\d UTC", text)))

            async def through(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                there, back = await asyncio.open_connection("127.0.0.1", int(home.url.rpartition(":")[2]))
                back.write(await reader.readuntil(b"\r\n\r\n"))
                writer.write(await there.read())
                await writer.drain()
                writer.close()
                back.close()

            async with await asyncio.start_server(through, "127.0.0.1", port):
                await terminal.shows("no request is under way", len(terminal.written))
            before = len(terminal.written)
            await terminal.shows("away since", before)
            terminal.type("q")
            assert await asyncio.wait_for(process.wait(), 10) == 0


async def test_a_user_logs_in_at_the_terminal_and_stays_logged_in(tmp_path: Path) -> None:
    async with house(tmp_path, auth={"token_seconds": 60}) as home:
        hashed = await Passwords(CHEAPEST).hash("une phrase de passe")
        await UserStore(home.engine).add("root", hashed, tenant=HOUSE, scopes=scopes_of("operator", HOUSE))
        async with in_terminal("--url", home.url, "--user", "root", *FAST) as (terminal, process):
            await terminal.shows("Password of root: ")
            terminal.type("une phrase de passe\n")
            await terminal.shows("no request is under way")
            assert "phrase" not in terminal.written
            terminal.type("q")
            assert await asyncio.wait_for(process.wait(), 10) == 0
        async with in_terminal("--url", home.url, "--user", "root") as (terminal, process):
            await terminal.shows("Password of root: ")
            terminal.type("wrong\n")
            await terminal.shows("refuses the login")
            assert await asyncio.wait_for(process.wait(), 10) == 1
