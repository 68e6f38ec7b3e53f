"""Two workers of one gateway, as processes: what a command takes back holds in both within five seconds."""

import asyncio
import sys
from pathlib import Path
from typing import Any

import aiohttp

from auth.signing import keys_from_folder
from auth.tokens import Tokens
from tests.gateway.test_hangup import Gateway, started
from tests.upstream import upstream

PASSWORD = "une phrase de passe"
SECONDS = 5


async def command(gateway: Gateway, *words: str, stdin: str = "") -> str:
    """Run `passerelle …` beside the gateway; what it prints."""
    config = ["--config", str(gateway.folder / "passerelle.toml")]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway.cli", *words, *config,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate(stdin.encode())
    assert process.returncode == 0, err.decode()
    return out.decode()


async def statuses(gateway: Gateway, token: str, times: int = 24) -> set[int]:
    """What so many requests get, each over a connection of its own, so that both workers have some."""

    async def one() -> int:
        url, headers = f"http://127.0.0.1:{gateway.port}/v1/models", {"authorization": f"Bearer {token}"}
        async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as answer:
            return answer.status

    return set(await asyncio.gather(*(one() for _ in range(times))))


async def login(gateway: Gateway, **fields: str) -> tuple[int, dict[str, Any]]:
    url = f"http://127.0.0.1:{gateway.port}/auth/token"
    async with aiohttp.ClientSession() as session, session.post(url, data=fields) as answer:
        return answer.status, await answer.json()


async def test_a_revoked_key_and_a_disabled_user_are_out_of_every_worker_within_five_seconds(tmp_path: Path) -> None:
    async with upstream() as model, started(tmp_path, 2, model.url) as gateway:
        await gateway.logged("Application startup complete", 2)
        key = (await command(gateway, "keys", "add", "ci", "--tenant", "acme")).strip()
        key_id = (await command(gateway, "keys", "list")).split("\t")[0]
        await command(gateway, "users", "add", "alice", "--tenant", "acme", "--password-stdin", stdin=PASSWORD)
        _, granted = await login(gateway, grant_type="password", username="alice", password=PASSWORD)
        assert await statuses(gateway, key) == {200}
        assert await statuses(gateway, granted["access_token"]) == {200}
        await command(gateway, "keys", "revoke", key_id)
        await command(gateway, "users", "disable", "alice")
        await asyncio.sleep(SECONDS)
        assert await statuses(gateway, key) == {401}
        assert await statuses(gateway, granted["access_token"]) == {401}
        status, body = await login(gateway, grant_type="refresh_token", refresh_token=granted["refresh_token"])
        assert (status, body["error"]) == (400, "invalid_grant")


async def test_every_worker_takes_up_a_new_signing_key_and_drops_one_that_is_removed(tmp_path: Path) -> None:
    async with upstream() as model, started(tmp_path, 2, model.url) as gateway:
        await gateway.logged("Application startup complete", 2)
        folder = tmp_path / "signing-keys"
        old = keys_from_folder(folder)
        before = Tokens(old, "passerelle", "passerelle").issue("alice", {"models"}, "acme")
        assert await statuses(gateway, before) == {200}
        await command(gateway, "signing-keys", "rotate", "--now")
        after = Tokens(keys_from_folder(folder), "passerelle", "passerelle").issue("alice", {"models"}, "acme")
        await asyncio.sleep(SECONDS)
        assert [await statuses(gateway, token) for token in (before, after)] == [{200}, {200}]
        await command(gateway, "signing-keys", "remove", old.newest.number)
        await asyncio.sleep(SECONDS)
        assert [await statuses(gateway, token) for token in (before, after)] == [{401}, {200}]
