"""The log is one JSON object a line, whatever happens: of a real gateway with its workers, and of a process that breaks."""

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from auth.principal import SCOPES_OF_ROLE
from auth.signing import keys_from_folder
from auth.tokens import Tokens
from tests.collector import collector
from tests.gateway.test_hangup import Gateway
from tests.gateway.test_workers import PASSWORD, command
from tests.upstream import upstream
from tests.vllm_server import free_port

BREAKING = """
import asyncio, gc, logging, threading, warnings
import structlog
from gateway.logs import configure_logging, log_the_unforeseen

class Dying:
    def __del__(self):
        raise OSError("in a finaliser")

class Wordless:
    def __str__(self):
        raise ValueError("no words")

async def forgotten():
    raise OSError("in a task")

async def main():
    task = asyncio.create_task(forgotten())
    await asyncio.sleep(0)
    del task
    gc.collect()

configure_logging()
log_the_unforeseen()
structlog.contextvars.bind_contextvars(trace_id="4bf92f35")
warnings.warn("in a warning")
logging.getLogger("some.library").error("in %d words", "no number")
logging.getLogger("some.library").error("a lone surrogate: \\udc80")
logging.getLogger("some.library").warning("two\\nlines")
structlog.get_logger().info("in numbers", number=1 << 70, key={1: object(), (2, 3): 4})
structlog.get_logger().info("without words", value=Wordless())
structlog.get_logger().info("in order", z=1, a=2)
structlog.get_logger().debug("in detail")
thread = threading.Thread(target=lambda: 1 / 0, name="worker-1")
thread.start()
thread.join()
Dying()
asyncio.run(main())
raise KeyError("at the end")
"""


def parsed(text: str) -> list[dict[str, Any]]:
    """Every line as an object; fails at one that is none."""
    lines = [json.loads(line) for line in text.splitlines()]
    assert all(isinstance(line, dict) and {"event", "level"} <= line.keys() for line in lines)
    return lines


def test_everything_a_breaking_process_says_is_json() -> None:
    done = subprocess.run([sys.executable, "-c", BREAKING], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    lines = parsed(done.stderr)
    told = {line["event"]: line for line in lines}
    assert "in a warning" in next(event for event in told if "UserWarning" in event)
    unloggable = [line for line in lines if line["event"] == "unloggable"]
    assert [(line["logger"], line["reason"]) for line in unloggable] == [
        ("some.library", "TypeError"),
        ("__main__", "ValueError"),
    ]
    assert list(told["in order"]) == ["z", "a", "event", "trace_id", "level", "timestamp"]
    assert "in detail" not in told
    assert "two\nlines" in told
    assert any("surrogate" in event for event in told)
    assert told["in numbers"]["number"] == 1 << 70
    assert (told["thread_crashed"]["thread"], told["crashed"]["level"]) == ("worker-1", "critical")
    exceptions = {
        "thread_crashed": "ZeroDivisionError",
        "error_ignored": "in a finaliser",
        "Task exception was never retrieved": "in a task",
        "crashed": "at the end",
    }
    for event, text in exceptions.items():
        line = next(line for name, line in told.items() if name.startswith(event))
        assert text in line["exception"]
    assert told["two\nlines"]["trace_id"] == "4bf92f35"


async def broken(gateway: Gateway) -> str:
    """Have a request break in a way that nobody has foreseen: the database holds a time that is none. Its request id."""
    await command(gateway, "users", "add", "alice", "--tenant", "acme", "--password-stdin", stdin=PASSWORD)
    with closing(sqlite3.connect(gateway.folder / "passerelle.db")) as database:
        database.execute("update users set created_at = 'nonsense'")
        database.commit()
    tokens = Tokens(keys_from_folder(gateway.folder / "signing-keys"), "passerelle", "passerelle", 900)
    token = tokens.issue("root", scopes=SCOPES_OF_ROLE["admin"], tenant="acme")
    url, headers = f"http://127.0.0.1:{gateway.port}/admin/users", {"authorization": f"Bearer {token}"}
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as answer:
        assert answer.status == 500
        return answer.headers["x-request-id"]


async def garbage(gateway: Gateway) -> None:
    """Something that is not HTTP."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(b"garbage\r\n\r\n")
    await reader.read()
    writer.close()


@asynccontextmanager
async def running(folder: Path, workers: int, url: str, more: str = "") -> AsyncIterator[Gateway]:
    """A gateway that may break; at the end it is stopped, and has written nothing but its log."""
    gateway = Gateway(folder, workers)
    gateway.write(url, more=more)
    with (folder / "out").open("wb") as out:
        await gateway.start(out)
    assert gateway.process is not None
    try:
        yield gateway
    finally:
        if gateway.process.returncode is None:
            gateway.process.terminate()
        await asyncio.wait_for(gateway.process.wait(), 20)
    assert (folder / "out").read_text() == ""


@pytest.mark.parametrize("workers", [1, 2])
async def test_the_whole_output_of_a_gateway_is_json_from_its_start_to_its_end(tmp_path: Path, workers: int) -> None:
    async with upstream() as model, collector() as traces:
        tracing = f'[tracing]\nendpoint = "{traces.url}"\nratio = 1\n'
        async with running(tmp_path, workers, model.url, tracing) as gateway:
            await gateway.logged("Application startup complete", workers)
            await gateway.logged('"serving"')
            await gateway.answer()
            request_id = await broken(gateway)
            await garbage(gateway)
            gateway.hang_up()
            await gateway.logged('"reloaded"', workers)
            gateway.write(model.url, more="nonsense = 1\n")
            gateway.hang_up()
            await gateway.logged("reload_refused", workers)
        span = await traces.has("POST /v1/chat/completions")
    text = (tmp_path / "log").read_text()
    lines = parsed(text)
    (error,) = (line for line in lines if line["event"] == "internal_error")
    assert (error["request_id"], "Traceback" in error["exception"]) == (request_id, True)
    assert error["trace_id"] in {line.get("trace_id") for line in lines if line["event"] == "request"}
    (chat,) = (line for line in lines if line.get("path") == "/v1/chat/completions")
    assert (chat["trace_id"], chat["span_id"]) == (span.trace, span.id)
    assert {"uvicorn.error"} <= {line.get("logger") for line in lines}
    assert [word for word in (PASSWORD, "Bearer", "Comment suivre") if word in text] == []


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_gateway_that_cannot_start_ends_its_log_with_one_sentence(
    tmp_path: Path, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = f"postgresql://nobody:48151623@127.0.0.1:{free_port()}/none"
    monkeypatch.setenv("PASSERELLE_STATE__DATABASE_URL", away)
    async with running(tmp_path, workers, "http://127.0.0.1:1/v1") as gateway:
        assert gateway.process is not None
        assert await asyncio.wait_for(gateway.process.wait(), 30) == 1
    *lines, last = (tmp_path / "log").read_text().splitlines()
    parsed("\n".join(lines))
    assert last.startswith("passerelle: ")
    assert "48151623" not in (tmp_path / "log").read_text()


async def test_a_worker_that_breaks_before_it_serves_says_so_in_json(tmp_path: Path) -> None:
    async with upstream() as model, running(tmp_path, 2, model.url) as gateway:
        await gateway.logged("Application startup complete", 2)
        gateway.write(model.url, more="nonsense = 1\n")
        first = json.loads(gateway.lines("Started server process")[0])["event"]
        os.kill(int(first.rpartition("[")[2].rstrip("]")), signal.SIGKILL)
        await gateway.logged('"worker_lost"', 2)
        gateway.write(model.url)
        await gateway.logged("Application startup complete", 3)
    killed, refused = [line for line in parsed((tmp_path / "log").read_text()) if line["event"] == "worker_lost"][:2]
    assert "SIGKILL" in killed["reason"]
    assert (
        refused["reason"] == "models.m.nonsense is not a setting (see passerelle.example.toml for the ones there are)."
    )
