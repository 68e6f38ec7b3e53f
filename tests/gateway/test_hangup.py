"""SIGHUP to real processes: streams go on, replicas change, a wrong configuration is refused; and what a closed terminal does."""

import asyncio
import json
import os
import signal
import sys
import threading
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, BinaryIO

import aiohttp
import pytest
from openai import AsyncOpenAI

from auth.principal import SCOPES_OF_ROLE
from auth.signing import keys_from_folder
from auth.tokens import Tokens
from gateway.app import create_app
from gateway.commands.up import on_hangup
from gateway.reckoning import Reckoner
from gateway.reload import Reload
from gateway.routing import Catalogue
from gateway.settings import Settings
from tests.gateway.test_reload import settings
from tests.house import configuration
from tests.loopback import serve
from tests.upstream import pauses, says, upstream
from tests.vllm_server import free_port

CONFIG = """
[server]
port = {port}
workers = {workers}
shutdown_seconds = 5
[state]
directory = "{folder}"
[limits]
requests_per_minute = 0
[routing]
probe_seconds = 0.1
[guards]
language.mode = "annotate"
moderation.mode = "annotate"
leaks.mode = "annotate"
loops.mode = "annotate"
[targets.{target}]
kind = "vllm"
urls = ["{url}"]
model = "falcon"
[models.m]
targets = ["{target}"]
"""
QUESTION: list[Any] = [{"role": "user", "content": "Comment suivre mon avis ?"}]


class Gateway:
    """`passerelle gateway` as a process of its own, its log in a file."""

    def __init__(self, folder: Path, workers: int) -> None:
        self.folder, self.workers, self.port = folder, workers, free_port()
        self.process: Process | None = None

    def write(self, url: str, target: str = "local", more: str = "") -> None:
        """The configuration: one target of one replica."""
        text = CONFIG.format(port=self.port, workers=self.workers, folder=self.folder, url=url, target=target)
        (self.folder / "passerelle.toml").write_text(text + more, encoding="utf-8")

    async def start(self, output: BinaryIO | None = None) -> None:
        command = ["-m", "gateway.cli", "gateway", "--config", str(self.folder / "passerelle.toml")]
        with (self.folder / "log").open("wb") as log:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable, *command, stdout=output, stderr=log, start_new_session=True
            )

    def lines(self, word: str) -> list[str]:
        """The lines of the log so far that hold the word."""
        return [line for line in (self.folder / "log").read_text().splitlines() if word in line]

    def hang_up(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGHUP)

    async def logged(self, word: str, times: int = 1) -> None:
        """Wait until as many lines of the log hold the word."""
        async with asyncio.timeout(40):
            while len(self.lines(word)) < times:  # noqa: ASYNC110  # another process
                await asyncio.sleep(0.02)

    def client(self) -> AsyncOpenAI:
        """The official SDK, its token signed with the gateway's key."""
        tokens = Tokens(keys_from_folder(self.folder / "signing-keys"), "passerelle", "passerelle", 900)
        token = tokens.issue("alice", scopes=SCOPES_OF_ROLE["member"], tenant="acme", may_leave=True)
        return AsyncOpenAI(base_url=f"http://127.0.0.1:{self.port}/v1", api_key=token, max_retries=0)

    async def answer(self) -> str:
        """One answer over a connection of its own, so that any worker may get it."""
        async with self.client() as client:
            answer = await client.chat.completions.create(model="m", messages=QUESTION)
        return answer.choices[0].message.content or ""

    async def metrics(self) -> str:
        url = f"http://127.0.0.1:{self.port}/metrics"
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            return await answer.text()


@asynccontextmanager
async def started(folder: Path, workers: int, url: str) -> AsyncIterator[Gateway]:
    """A gateway that has begun to start; at the end it is stopped in order."""
    gateway = Gateway(folder, workers)
    gateway.write(url)
    await gateway.start()
    assert gateway.process is not None
    try:
        yield gateway
        gateway.process.terminate()
        assert await asyncio.wait_for(gateway.process.wait(), 20) == 0
        assert gateway.lines("Traceback") + gateway.lines("died") == []
    finally:
        if gateway.process.returncode is None:
            os.killpg(gateway.process.pid, signal.SIGKILL)
            await gateway.process.wait()


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_replica_is_replaced_under_an_open_stream(tmp_path: Path, workers: int) -> None:
    released = asyncio.Event()
    held = pauses(released)
    async with upstream() as old, upstream() as new, started(tmp_path, workers, old.url) as gateway:
        old.answers(held)
        new.answers(says("Une nouvelle réponse."))
        await gateway.logged("Application startup complete", workers)
        async with gateway.client() as client:
            stream = await client.chat.completions.create(model="m", messages=QUESTION, stream=True)
            texts = [part.choices[0].delta.content or "" async for part in stream_until_text(stream)]
            gateway.write(new.url, target="other")
            gateway.hang_up()
            await gateway.logged('"reloaded"', workers)
            assert [await gateway.answer() for _ in range(8)] == ["Une nouvelle réponse."] * 8
            assert (len(old.asked), len(new.asked)) == (1, 8)
            shown = await gateway.metrics()
            assert 'passerelle_replica_state{replica="0",target="other"} 0.0' in shown
            assert 'target="local"' not in shown.partition("passerelle_replica_state")[2].partition("# HELP")[0]
            assert 'passerelle_replica_down{replica="0",target="other"} 0.0' in shown
            gateway.write(new.url, more="[targets.broken]\nkind = 'tgi'\n")
            gateway.hang_up()
            await gateway.logged('"reload_refused"', workers)
            (sentence,) = {json.loads(line)["reason"] for line in gateway.lines('"reload_refused"')}
            assert sentence == "targets.broken.kind holds 'tgi', but input should be 'vllm' or 'openai'."
            assert await gateway.answer() == "Une nouvelle réponse."
            released.set()
            texts += [part.choices[0].delta.content or "" async for part in stream]
            assert "".join(texts) == "Le début, et la fin."


async def stream_until_text(stream: Any) -> AsyncIterator[Any]:
    """A stream's parts up to the first text."""
    async for part in stream:
        yield part
        if part.choices[0].delta.content:
            return


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_process_that_is_still_starting_neither_ends_nor_misses_it(tmp_path: Path, workers: int) -> None:
    async with upstream() as old, upstream() as new, started(tmp_path, workers, old.url) as gateway:
        await gateway.logged("Started server process")
        gateway.write(new.url)
        gateway.hang_up()
        await gateway.logged('"reloaded"')
        await gateway.logged("Application startup complete", workers)
        await gateway.answer()
        assert (len(old.asked), len(new.asked)) == (0, 1)


async def test_a_reload_outside_the_main_thread_waits_in_vain_and_touches_no_signal() -> None:
    held = settings()

    async def replaced(_: Settings) -> None: ...

    def elsewhere() -> None:
        async def briefly() -> None:
            running = asyncio.ensure_future(Reload(held, lambda: held, Catalogue(held), Reckoner(held), replaced).run())
            await asyncio.sleep(0)
            running.cancel()
            await asyncio.wait({running})

        asyncio.run(briefly())

    before = signal.getsignal(signal.SIGHUP)
    thread = threading.Thread(target=elsewhere)
    thread.start()
    await asyncio.to_thread(thread.join)
    assert signal.getsignal(signal.SIGHUP) is before


async def test_the_signal_is_let_be_again_when_the_application_ends(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGHUP), signal.pthread_sigmask(signal.SIG_BLOCK, ())
    async with upstream() as fake:
        tables = configuration(tmp_path, fake, fake, targets={"local": {"api_key_env": None}})
        held = settings([fake.url], state=tables["state"])
        async with serve(create_app(held, lambda: held)):
            await asyncio.sleep(0)
            assert signal.getsignal(signal.SIGHUP) is not before[0]
    assert (signal.getsignal(signal.SIGHUP), signal.pthread_sigmask(signal.SIG_BLOCK, ())) == before


def test_up_passes_it_on_until_its_terminal_is_closed() -> None:
    terminal, ours = os.openpty()
    heard: list[int] = []
    before = signal.getsignal(signal.SIGHUP)
    with os.fdopen(ours) as stdin:
        try:
            on_hangup(stdin, lambda: heard.append(1))
            signal.raise_signal(signal.SIGHUP)
            assert heard == [1]
            os.close(terminal)
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGHUP)
        finally:
            signal.signal(signal.SIGHUP, before)
    assert heard == [1]
