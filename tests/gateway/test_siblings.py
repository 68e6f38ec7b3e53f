"""Workers that ask one another over sockets in the state directory."""

import asyncio
import socket
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from gateway.siblings import Heard, Siblings, short_name

Join = Callable[[str], Awaitable[Siblings]]


def sockets(folder: Path) -> list[Path]:
    return sorted((folder / "workers").iterdir())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
async def join(folder: Path) -> AsyncIterator[Join]:
    """Have a worker join that says its name and what it was asked."""
    async with AsyncExitStack() as stack:

        async def joined(name: str) -> Siblings:
            made = Siblings(folder)

            async def say(rest: bytes) -> bytes:
                return f"{name} {rest.decode()}".encode()

            made.answer(b"who", say)
            return await stack.enter_async_context(made)

        yield joined


async def test_each_hears_all_the_others(join: Join) -> None:
    one, two, _ = [await join(name) for name in ("one", "two", "three")]
    answers, silent = await one.ask(b"who", b"is there")
    assert (sorted(answers), silent) == ([b"three is there\n", b"two is there\n"], 0)
    answers, _ = await two.ask(b"who")
    assert sorted(answers) == [b"one \n", b"three \n"]


async def test_who_is_alone_hears_nobody(join: Join, folder: Path) -> None:
    assert await (await join("one")).ask(b"who") == Heard([], 0)
    assert await Siblings(folder / "nowhere").ask(b"who") == Heard([], 0)


async def test_who_hangs_is_counted_and_holds_nobody_up(join: Join, folder: Path) -> None:
    one, _ = await join("one"), await join("two")
    hung = asyncio.Event()

    async def hang(_: bytes) -> bytes:
        await hung.wait()
        return b""

    async with Siblings(folder) as third:
        third.answer(b"who", hang)
        async with asyncio.timeout(5):
            assert await one.ask(b"who") == Heard([b"two \n"], 1)
        hung.set()


async def test_a_process_that_was_killed_is_forgotten(join: Join, folder: Path) -> None:
    one = await join("one")
    dead = folder / "workers" / "dead.sock"
    with socket.socket(socket.AF_UNIX) as bound, short_name(dead) as name:
        bound.bind(name)
    assert dead.exists()
    assert await one.ask(b"who") == Heard([], 0)
    assert not dead.exists()


async def test_what_leaves_takes_its_socket_along(folder: Path) -> None:
    async with Siblings(folder):
        (there,) = sockets(folder)
        assert there.suffix == ".sock"
        assert stat.S_IMODE(there.stat().st_mode) == 0o600
        assert stat.S_IMODE(there.parent.stat().st_mode) == 0o700
    assert sockets(folder) == []


async def test_a_folder_may_lie_deeper_than_a_socket_s_path_may_be_long(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["a-folder-of-thirty-characters-x"] * 5)

    async def say(_: bytes) -> bytes:
        return b"here"

    async with Siblings(deep) as one, Siblings(deep) as two:
        two.answer(b"who", say)
        assert await one.ask(b"who") == Heard([b"here\n"], 0)


async def test_without_a_folder_to_write_in_a_worker_works_alone(tmp_path: Path) -> None:
    (tmp_path / "workers").write_text("no folder")
    async with Siblings(tmp_path) as alone:
        assert await alone.ask(b"who") == Heard([], 0)


async def test_questions_that_are_none_are_not_answered(join: Join, folder: Path) -> None:
    await join("one")
    (there,) = sockets(folder)
    for question in (b"", b"what\n", b"x" * 10_000 + b"\n", b"who"):
        with short_name(there) as name:
            reader, writer = await asyncio.open_unix_connection(name)
        writer.write(question)
        writer.write_eof()
        async with asyncio.timeout(5):
            assert await reader.read() == b""
        writer.close()
