"""A whole gateway for a test: real uvicorn, real database, the official SDK as its client, fakes only upstream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from openai import AsyncOpenAI
from sqlalchemy.ext.asyncio import AsyncEngine

from auth import database
from auth.principal import SCOPES_OF_ROLE
from auth.signing import keys_from_folder
from auth.tokens import Tokens
from gateway.app import create_app
from gateway.journal import Journal
from gateway.ledger import Ledger
from gateway.settings import Settings
from tests.loopback import serve
from tests.upstream import Upstream, upstream

MODEL = "tiiuae/falcon-7b-instruct"
# Guards of answers that stop nothing, so that text leaves as it comes.
LOOKING_ON: dict[str, Any] = {guard: {"mode": "annotate"} for guard in ("language", "moderation", "leaks", "loops")}
LOCAL_KEY, OUTSIDE_KEY = "key-of-the-local-server", "key-of-the-outside-one"


@dataclass
class House:
    """The running gateway, its two model servers, and what lies behind it."""

    url: str
    settings: Settings
    local: Upstream
    outside: Upstream
    engine: AsyncEngine
    clients: list[AsyncOpenAI] = field(default_factory=list)

    def token(self, subject: str = "alice", **more: Any) -> str:
        """A token signed with the gateway's own key."""
        options = {"scopes": SCOPES_OF_ROLE["member"], "tenant": "acme", "may_leave": True, **more}
        auth = self.settings.auth
        lifetime, now = options.pop("lifetime", 900), options.pop("now", None)
        keys = keys_from_folder(self.settings.state.directory / "signing-keys")
        clock = {} if now is None else {"now": now}
        return Tokens(keys, auth.issuer, auth.audience, lifetime, **clock).issue(subject, **options)

    def client(self, **token: Any) -> AsyncOpenAI:
        """The official SDK, pointed here; it never retries, so that every request is one of the test's."""
        return self.client_with(self.token(**token))

    def client_with(self, key: str) -> AsyncOpenAI:
        """The official SDK with any key."""
        self.clients.append(AsyncOpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=0))
        return self.clients[-1]

    async def ledger(self, request_id: str) -> list[dict[str, Any]]:
        """The rows of a request, the journal having been drained."""
        ledger = Ledger(self.engine, Journal(self.settings.state.directory / "journal"))
        for _ in range(200):
            if rows := await ledger.of(request_id):
                return rows
            await asyncio.sleep(0.02)
        raise AssertionError(f"no row for {request_id}")


def configuration(folder: Path, local: Upstream, outside: Upstream, **changes: dict[str, Any]) -> dict[str, Any]:
    """Settings with short time limits, one model, a local and an outside target."""
    tables: dict[str, Any] = {
        "state": {"directory": folder},
        "limits": {"requests_per_minute": 0},
        "times": {"connect": 1, "first_content": 1, "idle": 1, "total": 20},
        "targets": {
            "local": {"kind": "vllm", "urls": [local.url], "model": "falcon", "api_key_env": "TEST_LOCAL_KEY"},
            "outside": {
                "kind": "openai",
                "urls": [outside.url],
                "model": "gpt-3.5-turbo",
                "api_key_env": "TEST_OUTSIDE_KEY",
                "outside": True,
            },
        },
        "models": {MODEL: {"targets": ["local", "outside"]}},
    }
    targets = changes.pop("targets", {})
    tables["targets"] |= {name: {**tables["targets"].get(name, {}), **target} for name, target in targets.items()}
    for name, table in changes.items():
        tables[name] = {**tables.get(name, {}), **table}
    return tables


@asynccontextmanager
async def house(folder: Path, **changes: dict[str, Any]) -> AsyncIterator[House]:
    """A gateway whose settings differ from `configuration` by `changes`."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("TEST_LOCAL_KEY", LOCAL_KEY)
        environment.setenv("TEST_OUTSIDE_KEY", OUTSIDE_KEY)
        async with upstream() as local, upstream() as outside:
            settings = Settings(**configuration(folder, local, outside, **changes))
            engine = database.engine(settings.state.database())
            async with serve(create_app(settings), http="httptools", loop="asyncio") as url:
                running = House(url, settings, local, outside, engine)
                yield running
                for client in running.clients:
                    await client.close()
            await engine.dispose()
