"""Two gateways started at once with what their pods are given, as processes: they share what pods have to share."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import asyncpg

from tests.deploy.kubernetes import load
from tests.deploy.kubernetes_serving import given
from tests.upstream import upstream
from tests.vllm_server import free_port

MODEL = "falcon3-7b-instruct"
PASSWORD = "une phrase de passe"


@dataclass
class Pod:
    """One gateway: its process, and where it is reached."""

    process: asyncio.subprocess.Process
    environment: dict[str, str]
    url: str

    async def get(self, path: str) -> tuple[int, str]:
        """Status and text, as a probe would have them; 0 while nobody listens."""
        try:
            async with aiohttp.ClientSession() as session, session.get(self.url + path) as answer:
                return answer.status, await answer.text()
        except aiohttp.ClientConnectionError:
            return 0, ""

    async def until(self, path: str, *texts: str) -> None:
        """Ask until it answers 200 with all of these texts."""
        answer = await self.get(path)
        while answer[0] != 200 or not all(text in answer[1] for text in texts):
            assert self.process.returncode is None
            await asyncio.sleep(0.1)
            answer = await self.get(path)

    async def login(self) -> str:
        """An access token of alice's."""
        fields = {"grant_type": "password", "username": "alice", "password": PASSWORD}
        async with aiohttp.ClientSession() as session, session.post(f"{self.url}/auth/token", data=fields) as answer:
            return str((await answer.json())["access_token"])

    async def chat(self, token: str) -> tuple[int, str | None]:
        """Status of a chat, and what was tried if that was more than one."""
        headers = {"authorization": f"Bearer {token}"}
        question = {"model": MODEL, "messages": [{"role": "user", "content": "Comment suivre mon avis ?"}]}
        async with (
            aiohttp.ClientSession(headers=headers) as session,
            session.post(f"{self.url}/v1/chat/completions", json=question) as answer,
        ):
            return answer.status, answer.headers.get("x-passerelle-attempts")


def environment_of(folder: Path, replica: str, database: str, redis: str) -> dict[str, str]:
    """A pod's of the overlay `cluster`, with a folder of its own; its first replica is this one, the others are not there."""
    environment, text = given(load("cluster"))
    assert text is not None
    text = text.replace("http://vllm-0.vllm:8000", replica)
    for absent in (1, 2, 3):
        text = text.replace(f"http://vllm-{absent}.vllm:8000", f"http://127.0.0.1:{absent}")  # where nobody listens
    folder.mkdir()
    (folder / "passerelle.toml").write_text(text, encoding="utf-8")
    return environment | {
        "PASSERELLE_CONFIG": str(folder / "passerelle.toml"),
        "PASSERELLE_STATE__DIRECTORY": str(folder),
        "PASSERELLE_STATE__DATABASE_URL": database,
        "PASSERELLE_STATE__REDIS_URL": redis,
        "PASSERELLE_STATE__REDIS_PREFIX": folder.parent.name[:64],
        "PASSERELLE_ROUTING__PROBE_SECONDS": "0.5",
        "PASSERELLE_SERVER__HOST": "127.0.0.1",
        "PASSERELLE_SERVER__PORT": str(free_port()),
        "PYTHONPATH": ":".join(sys.path),
    }


@asynccontextmanager
async def pod(environment: dict[str, str]) -> AsyncIterator[Pod]:
    """A gateway with this environment and no other."""
    words = (sys.executable, "-m", "gateway.cli", "gateway")
    process = await asyncio.create_subprocess_exec(*words, env=environment, stderr=asyncio.subprocess.DEVNULL)
    try:
        yield Pod(process, environment, f"http://127.0.0.1:{environment['PASSERELLE_SERVER__PORT']}")
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def add_alice(made: Pod) -> None:
    """As `kubectl exec` would."""
    words = (sys.executable, "-m", "gateway.cli", "users", "add", "alice", "--tenant", "acme", "--password-stdin")
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*words, env=made.environment, stdin=pipe, stdout=pipe, stderr=pipe)
    _, said = await process.communicate(PASSWORD.encode())
    assert process.returncode == 0, said.decode()


async def test_pods_that_start_together_share_users_keys_and_the_ledger(
    tmp_path: Path, postgres_database: str, redis_url: str
) -> None:
    async with upstream() as fake:
        replica = fake.url.removesuffix("/v1")
        given_a, given_b = (environment_of(tmp_path / name, replica, postgres_database, redis_url) for name in "ab")
        async with pod(given_a) as one, pod(given_b) as other:
            # Ready although three of four replicas are not there: one is enough. The tables were made by whoever was first.
            await asyncio.gather(one.until("/readyz"), other.until("/readyz"))
            await add_alice(one)
            token = await one.login()
            down = [f'passerelle_replica_down{{replica="{n}",target="falcon3"}} 1.0' for n in (1, 2, 3)]
            await asyncio.gather(one.until("/metrics", *down), other.until("/metrics", *down))
            # A token of one is good at the other; once the probes know who is not there, nobody asks them.
            answers = await asyncio.gather(*(made.chat(token) for made in (one, other) for _ in range(10)))
            assert answers == [(200, None)] * 20
            for made in (one, other):
                made.process.terminate()
            # uvicorn has closed everything when it lets the signal end it.
            assert [await made.process.wait() for made in (one, other)] == [0, 0]
    # A pod that ends in order leaves nothing in its journal, which goes with it.
    assert [path for name in "ab" for path in (tmp_path / name / "journal").glob("*.jsonl")] == []
    connection = await asyncpg.connect(postgres_database)
    try:
        assert await connection.fetchval("SELECT count(*) FROM ledger WHERE kind = 'settle'") == 20
    finally:
        await connection.close()
