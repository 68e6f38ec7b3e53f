"""The open routes of `auth`, served on loopback by themselves."""

import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import aiohttp
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from sqlalchemy.ext.asyncio import AsyncEngine

from auth import throttle
from auth.clients import ClientStore
from auth.credentials import Sealer
from auth.database import engine
from auth.errors import AuthError
from auth.grants import Grants
from auth.keys import KeyStore
from auth.login import Login
from auth.passwords import CHEAPEST, Passwords
from auth.revocations import Revocations
from auth.revoker import Revoker
from auth.routes import Rates, address, router
from auth.sessions import SessionStore
from auth.signing import KeySet
from auth.store import UserStore
from auth.throttle import Throttle
from auth.tokens import Tokens
from tests.auth.forge import AUDIENCE, ISSUER
from tests.loopback import serve

PASSWORD = "un bon mot de passe"
FORM = "application/x-www-form-urlencoded"
GOOD = {"grant_type": "password", "username": "alice", "password": PASSWORD}
SEALER = Sealer(b"a secret of the tests that is long enough")


@dataclass
class Server:
    """The routes, and what lies behind them."""

    url: str
    http: aiohttp.ClientSession
    engine: AsyncEngine
    users: UserStore
    clients: ClientStore
    keys: KeyStore
    tokens: Tokens
    revocations: Revocations

    async def post(
        self, data: bytes | str, content_type: str = FORM, path: str = "/auth/token", **headers: str
    ) -> tuple[int, Any, Any]:
        async with self.http.post(
            self.url + path, data=data, headers={"content-type": content_type} | headers
        ) as answer:
            return answer.status, await answer.json() if await answer.read() else None, answer.headers

    async def ask(self, **fields: str) -> tuple[int, Any, Any]:
        """The password grant, with some fields changed."""
        return await self.post(urlencode(GOOD | fields))

    async def grant(self, grant_type: str, **fields: str) -> tuple[int, Any, Any]:
        return await self.post(urlencode({"grant_type": grant_type, **fields}))

    async def revoke(self, token: str) -> int:
        return (await self.post(urlencode({"token": token}), path="/auth/revoke"))[0]


@contextlib.asynccontextmanager
async def running(
    folder: Path,
    keys: KeySet,
    rate: str | None = None,
    storage_uri: str = "memory://",
    *,
    url: str | None = None,
    now: Callable[[], float] = time.time,
    public_url: str | None = None,
) -> AsyncIterator[Server]:
    """With one user, alice of acme, who may chat and see the models."""
    opened = engine(url or f"sqlite:///{folder}/users.db")
    try:
        store, passwords = UserStore(opened, now=now), Passwords(CHEAPEST)
        await store.create_schema()
        await store.add(
            "alice", await passwords.hash(PASSWORD), tenant="acme", scopes=["chat", "models"], may_leave=True
        )
        limiter = throttle.limiter("1000/second" if rate is None else rate, storage_uri, address)
        revocations = Revocations(opened, now=now)
        tokens = Tokens(keys, ISSUER, AUDIENCE, revocations=revocations, now=now)
        sessions, sealed_keys = SessionStore(opened, 86_400, now=now), KeyStore(opened, SEALER, now=now)
        clients = ClientStore(opened, SEALER, now=now)
        grants = Grants(Login(store, passwords), store, sessions, clients, tokens, Throttle(limiter) if rate else None)
        revoker = Revoker(opened, sessions, sealed_keys, SEALER, tokens, now)
        app = FastAPI()
        app.include_router(
            router(grants, revoker, keys, Rates(limiter, rate, None), issuer=ISSUER, public_url=public_url)
        )

        @app.exception_handler(AuthError)
        async def render(_request: Request, error: AuthError) -> JSONResponse:
            return JSONResponse({"error": {"code": error.code}}, error.status, headers=dict(error.headers))

        async with serve(app) as served, aiohttp.ClientSession() as http:
            yield Server(served, http, opened, store, clients, sealed_keys, tokens, revocations)
    finally:
        await opened.dispose()
