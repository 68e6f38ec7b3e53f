"""Two workers of one gateway, as processes: each scrape shows what both have counted, and what a dead one had."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import psutil

from gateway.metrics_folder import VARIABLE, open_folder, remove_folder, shared
from gateway.multiprocess import Workers
from tests.gateway.figures import Figures, scraped
from tests.gateway.test_hangup import Gateway, started
from tests.upstream import upstream


async def scrapes(gateway: Gateway, times: int = 12) -> list[Figures]:
    """So many scrapes at once, over connections of their own, so that both workers answer some."""
    url = f"http://127.0.0.1:{gateway.port}"
    return await asyncio.gather(*(scraped(url) for _ in range(times)))


def served_by(gateway: Gateway) -> list[psutil.Process]:
    """The workers."""
    assert gateway.process is not None
    children = psutil.Process(gateway.process.pid).children()
    return [child for child in children if "gateway.commands.worker" in " ".join(child.cmdline())]


def metrics_folder(worker: psutil.Process) -> Path:
    """Where a worker keeps its figures."""
    return Path(worker.environ()[VARIABLE])


async def until(gateway: Gateway, true: Callable[[Figures], bool]) -> Figures:
    """The first scrape of which it is true; gauges of other workers are up to a second old."""
    async with asyncio.timeout(20):
        while True:
            (found,) = await scrapes(gateway, 1)
            if true(found):
                return found
            await asyncio.sleep(0.05)


def chats(found: Figures) -> float:
    return found.of("chats_total", model="m", target="local", state="completed")


@asynccontextmanager
async def two_workers(folder: Path, url: str) -> AsyncIterator[Gateway]:
    """A gateway of which one worker may be killed."""
    gateway = Gateway(folder, 2)
    gateway.write(url)
    await gateway.start()
    assert gateway.process is not None
    try:
        await gateway.logged("Application startup complete", 2)
        yield gateway
    finally:
        gateway.process.terminate()
        await asyncio.wait_for(gateway.process.wait(), 20)


async def test_every_scrape_shows_the_counts_of_both_workers_and_of_one_that_was_killed(tmp_path: Path) -> None:
    async with upstream() as model, two_workers(tmp_path, model.url) as gateway:
        await asyncio.gather(*(gateway.answer() for _ in range(24)))
        assert {chats(found) for found in await scrapes(gateway)} == {24}
        found = await until(gateway, lambda found: found.of("workers") == 2)
        assert found.of("replica_state", target="local", replica="0") == 0
        assert found.of("chat_seconds_count", model="m") == found.of("chat_seconds_bucket", model="m", le="+Inf") == 24
        judged = {"guard": "moderation", "verdict": "passed"}  # what guards found is put into the metrics once a second
        found = await until(gateway, lambda found: found.of("guard_verdicts_total", **judged) == 24)
        before, (first, second) = found, served_by(gateway)
        os.kill(first.pid, signal.SIGKILL)
        await gateway.logged("Application startup complete", 3)
        assert second.is_running()
        assert {chats(found) for found in await scrapes(gateway)} == {24}
        await asyncio.gather(*(gateway.answer() for _ in range(8)))
        assert {chats(found) for found in await scrapes(gateway)} == {32}
        after = await until(gateway, lambda found: found.of("workers") == 2)
        assert len(list(metrics_folder(second).glob("counter_*.db"))) == 3, "two that live, and the counts of the dead"
        assert after.of("requests_in_flight") <= 1
        counted = {sample.name for sample in before.samples if sample.name.endswith(("_total", "_count", "_bucket"))}
        for name in counted:
            short = name.removeprefix("passerelle_")
            assert after.of(short) >= before.of(short), name


async def test_a_target_that_is_gone_is_gone_from_every_scrape(tmp_path: Path) -> None:
    async with upstream() as old, upstream() as new, started(tmp_path, 2, old.url) as gateway:
        await gateway.logged("Application startup complete", 2)
        gateway.write(new.url, target="other")
        gateway.hang_up()
        await gateway.logged('"reloaded"', 2)
        for found in await scrapes(gateway):
            assert found.labels("replica_state", "target") == {"other"}
            assert found.labels("queue_waiting", "target") == {"other"}
            assert found.of("config_reloads_total", result="ok") == 2


def test_the_folder_is_fresh_and_gone_afterwards() -> None:
    assert shared() is None
    open_folder()
    made = shared()
    assert made is not None
    assert list(made.iterdir()) == []
    remove_folder()
    assert shared() is None
    assert not made.exists()


def test_a_worker_that_lives_is_not_taken_for_dead(tmp_path: Path) -> None:
    living = Workers(tmp_path)
    (tmp_path / f"counter_{os.getpid()}.db").write_bytes((8).to_bytes(4, "little") + bytes(60))
    assert living.collect(lambda metric, labels: True) == []
    assert (tmp_path / f"counter_{os.getpid()}.db").exists()


async def test_files_that_a_killed_worker_had_only_just_made_stop_no_scrape(tmp_path: Path) -> None:
    async with upstream() as model, two_workers(tmp_path, model.url) as gateway:
        folder = metrics_folder(served_by(gateway)[0])
        for name in ("999999.worker", "counter_999999.db", "histogram_999999.db", "counter_0.db"):
            (folder / name).touch()
        found = await until(gateway, lambda found: found.of("workers") == 2)
        assert found.of("config_reloads_total", result="ok") == 0
