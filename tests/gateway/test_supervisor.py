"""The supervisor in bad hours: killed, without anybody who reads its log, without a Python, told twice."""

import asyncio
import os
import signal
import sys
import sysconfig
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import openai
import psutil
import pytest

from tests.gateway.test_hangup import QUESTION, Gateway
from tests.gateway.test_renewal import renew, told, workers_of
from tests.gateway.test_stopping import ends, running, stop
from tests.upstream import pauses, says, upstream

SENTENCE = "Voici une réponse tout à fait française. "


class Silent:
    """An address of a database that says nothing until it is released, and then hangs up."""

    def __init__(self) -> None:
        self.asked, self.released, self.port = asyncio.Event(), asyncio.Event(), 0

    def into(self, text: str) -> str:
        """A configuration with this database."""
        address = f"postgresql://nobody@127.0.0.1:{self.port}/nothing"
        return text.replace("[state]\n", f"[state]\ndatabase_url = '{address}'\n")

    async def hold(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked.set()
        await self.released.wait()
        writer.close()


@asynccontextmanager
async def silent_database() -> AsyncIterator[Silent]:
    made = Silent()
    async with await asyncio.start_server(made.hold, "127.0.0.1", 0) as server:
        made.port = server.sockets[0].getsockname()[1]
        yield made


@asynccontextmanager
async def ending(gateway: Gateway) -> AsyncIterator[None]:
    """However this ends, no process is left."""
    try:
        yield
    finally:
        if gateway.process is not None and gateway.process.returncode is None:
            os.killpg(gateway.process.pid, signal.SIGKILL)
            await gateway.process.wait()


async def test_a_stream_has_its_time_when_the_supervisor_is_killed(tmp_path: Path) -> None:
    released = asyncio.Event()
    async with (
        upstream() as model,
        running(tmp_path, model, 1, shutdown_seconds=20) as gateway,
        gateway.client() as sdk,
    ):
        model.answers(pauses(released))
        stream = await sdk.chat.completions.create(model="m", messages=QUESTION, stream=True)
        texts = [(await anext(aiter(stream))).choices[0].delta.content or ""]
        (worker,) = workers_of(gateway)
        assert gateway.process is not None
        gateway.process.kill()
        await asyncio.sleep(3)  # several signs of life that nobody hears
        released.set()
        texts += [part.choices[0].delta.content or "" async for part in stream]
        assert "".join(texts) == "Le début, et la fin."
        with suppress(psutil.NoSuchProcess):
            await asyncio.to_thread(psutil.Process(worker).wait, 15)


async def test_streams_of_a_replaced_worker_have_the_time_that_it_was_started_with(tmp_path: Path) -> None:
    released = asyncio.Event()
    async with upstream() as model, running(tmp_path, model, 1) as gateway, gateway.client() as sdk:
        text = (tmp_path / "passerelle.toml").read_text()
        (first,) = workers_of(gateway)
        (tmp_path / "passerelle.toml").write_text(text.replace("shutdown_seconds = 5", "shutdown_seconds = 30"))
        renew(gateway)
        async with asyncio.timeout(30):
            while not gateway.lines('"renewal_done"') or first in workers_of(gateway):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        model.answers(pauses(released))
        stream = await sdk.chat.completions.create(model="m", messages=QUESTION, stream=True)
        texts = [(await anext(aiter(stream))).choices[0].delta.content or ""]
        (tmp_path / "passerelle.toml").write_text(text.replace("shutdown_seconds = 5", "shutdown_seconds = 1"))
        renew(gateway)
        await gateway.logged('"renewal_done"', 2)
        await asyncio.sleep(12)  # more than the new setting and what is granted beyond
        released.set()
        texts += [part.choices[0].delta.content or "" async for part in stream]
        assert "".join(texts) == "Le début, et la fin."
        assert told(gateway, "worker_killed") == []
        await ends(gateway, await stop(gateway), 10)


async def test_a_log_that_nobody_reads_any_more_ends_nothing(tmp_path: Path) -> None:
    async with upstream() as model:
        model.answers(says(SENTENCE))
        gateway = Gateway(tmp_path, 1)
        gateway.write(model.url)
        reading, writing = os.pipe()
        command = ["-m", "gateway.cli", "gateway", "--config", str(tmp_path / "passerelle.toml")]
        gateway.process = await asyncio.create_subprocess_exec(
            sys.executable, *command, stderr=writing, start_new_session=True
        )
        os.close(writing)
        async with ending(gateway):
            said = b""
            while b"startup complete" not in said:
                said += await asyncio.to_thread(os.read, reading, 65_536)
            os.close(reading)
            before = workers_of(gateway)
            renew(gateway)
            async with asyncio.timeout(30):
                while before & workers_of(gateway) or not workers_of(gateway):
                    assert gateway.process.returncode is None
                    await asyncio.sleep(0.1)
            assert await gateway.answer() == SENTENCE
            gateway.process.terminate()
            assert await asyncio.wait_for(gateway.process.wait(), 20) == 0


def interpreter(folder: Path) -> Path:
    """A virtual environment that may be moved away."""
    python, real = folder / "bin" / "python", Path(sys.executable).resolve()
    python.parent.mkdir(parents=True)
    python.symlink_to(real)
    (folder / "pyvenv.cfg").write_text(f"home = {real.parent}\n")
    return python


async def test_a_python_that_is_gone_for_a_while_leaves_the_workers_serving(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = interpreter(tmp_path / "venv")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path.cwd()), sysconfig.get_path("purelib")]))
    monkeypatch.setattr(sys, "executable", str(python))
    async with upstream() as model, running(tmp_path, model, 1) as gateway:
        model.answers(says(SENTENCE))
        python.rename(tmp_path / "away")
        renew(gateway)
        await gateway.logged('"renewal_refused"')
        (line,) = told(gateway, "renewal_refused")
        assert "No such file" in line["reason"]
        assert await gateway.answer() == SENTENCE
        (before,) = workers_of(gateway)
        os.kill(before, signal.SIGKILL)
        await gateway.logged('"worker_unstarted"', 2)
        (tmp_path / "away").rename(python)
        await gateway.logged("Application startup complete", 2)
        assert await gateway.answer() == SENTENCE
        await ends(gateway, await stop(gateway), 5)


async def test_what_changed_since_a_renewal_was_begun_is_read_by_the_next_one(tmp_path: Path) -> None:
    async with upstream() as model, running(tmp_path, model, 1) as gateway, silent_database() as database:
        model.answers(says(SENTENCE))
        await gateway.logged('"serving"')
        good = (tmp_path / "passerelle.toml").read_text()
        (tmp_path / "passerelle.toml").write_text(database.into(good))
        renew(gateway)
        await database.asked.wait()  # the new worker has read the configuration
        gateway.write(model.url, more="[guards.terms]\nmode = 'enforce'\nterms = ['suivre mon avis']\n")
        renew(gateway)
        await gateway.logged('"renewal_begun"', 2)
        database.released.set()
        await gateway.logged('"renewal_done"')
        assert gateway.lines('"renewal_refused"') == []
        async with asyncio.timeout(20):
            while len(workers_of(gateway)) != 1:  # noqa: ASYNC110  # another process
                await asyncio.sleep(0.05)
        with pytest.raises(openai.BadRequestError) as refused:
            await gateway.answer()
        assert refused.value.code == "content_policy_violation"
        await ends(gateway, await stop(gateway), 5)


async def test_a_renewal_while_the_first_worker_starts_outlives_that_one(tmp_path: Path) -> None:
    async with upstream() as model, silent_database() as database:
        model.answers(says(SENTENCE))
        gateway = Gateway(tmp_path, 1)
        gateway.write(model.url)
        good = (tmp_path / "passerelle.toml").read_text()
        (tmp_path / "passerelle.toml").write_text(database.into(good))
        async with ending(gateway):
            await gateway.start()
            async with asyncio.timeout(30):
                await database.asked.wait()
            (tmp_path / "passerelle.toml").write_text(good)
            renew(gateway)
            async with asyncio.timeout(10):
                while len(workers_of(gateway)) < 2:  # noqa: ASYNC110  # another process
                    await asyncio.sleep(0.01)
            database.released.set()  # and the first one fails
            await gateway.logged('"serving"')
            assert await gateway.answer() == SENTENCE
            await ends(gateway, await stop(gateway), 5)
