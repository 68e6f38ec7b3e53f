"""Everything about who may come in, built once from the settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fastapi import APIRouter, Request
from sqlalchemy.ext.asyncio import AsyncEngine

from auth import routes, schema, throttle
from auth.administration import Administration
from auth.credentials import Sealer, sealer_from_file
from auth.errors import BadConfiguration
from auth.grants import Grants
from auth.issuers import OutsideTokens
from auth.keys import ApiKeys
from auth.login import Login
from auth.passwords import Passwords
from auth.revocations import Revocations
from auth.revoker import Revoker
from auth.sessions import SessionStore
from auth.signing import KeyFolder, KeySet, keys_from_text
from auth.tenants import TenantStore
from auth.throttle import Throttle
from auth.tokens import Tokens
from auth.upkeep import Upkeep
from auth.verifier import Verifier
from gateway import administration
from gateway.access import Access
from gateway.settings import Settings


@dataclass(frozen=True)
class Identities:
    """What the application needs of it all: the check of a request, the routes, and what is done every few seconds."""

    access: Access
    tenants: TenantStore
    upkeep: Upkeep
    outside: OutsideTokens | None
    routers: tuple[APIRouter, ...]

    async def begin(self, engine: AsyncEngine) -> None:
        """Bring the tables to their newest revision, and let operators see, and close, the tenants of outside issuers."""
        await schema.prepare(engine)
        if self.outside is not None:
            await self.tenants.known(self.outside.tenants())


def sealer(settings: Settings) -> Sealer:
    """What API keys are stored by; raises BadConfiguration."""
    if (given := settings.auth.api_key_secret) is not None:
        return Sealer(given.get_secret_value().encode())
    return sealer_from_file(settings.state.directory / "api-key-secret")


def signing_keys(settings: Settings) -> KeyFolder | None:
    """The folder of signing keys, or None when they come from a setting; raises BadConfiguration."""
    if settings.auth.signing_key is not None:
        return None
    given = settings.auth.signing_keys
    if given is not None and not given.is_dir():  # a volume that is not mounted must not become a folder with a new key
        raise BadConfiguration(
            f"auth.signing_keys holds {str(given)!r}, which is no folder: make it, or mount it, first."
        )
    return KeyFolder(given or settings.state.directory / "signing-keys")


def administrators(settings: Settings, engine: AsyncEngine, sealed: Sealer, passwords: Passwords) -> Administration:
    """What the admin API and the commands go through."""
    return Administration.over(
        engine,
        sealed,
        passwords,
        minimum_password_length=settings.auth.minimum_password_length,
        requests_per_minute=settings.limits.requests_per_minute,
        minimum_password_guesses=settings.auth.minimum_password_guesses,
    )


def identities(settings: Settings, engine: AsyncEngine, away: Callable[[bool], None] | None = None) -> Identities:
    """Build it all; `away` hears whether the database answers about API keys. Raises BadConfiguration."""
    auth, sealed, folder, passwords = settings.auth, sealer(settings), signing_keys(settings), Passwords()
    keys = folder.keys if folder is not None else _keys_of_setting(settings)
    revocations = Revocations(engine)
    tokens = Tokens(keys, auth.issuer, auth.audience, auth.token_seconds, revocations=revocations)
    managed = administrators(settings, engine, sealed, passwords)
    sessions = SessionStore(engine, auth.refresh_seconds)
    api_keys = ApiKeys(managed.key_store, sealed, stale_s=auth.key_stale_seconds, away=away)
    outside = OutsideTokens(auth.outside()) if auth.issuers else None
    access = Access(Verifier(tokens, api_keys, outside, revocations))
    rates = _rates(settings)
    guess = Throttle(rates.limiter) if rates.passwords else None
    login = Login(managed.user_store, passwords)
    grants = Grants(login, managed.user_store, sessions, managed.client_store, tokens, guess)
    tokens_routes = routes.router(
        grants,
        Revoker(engine, sessions, managed.key_store, sealed, tokens),
        keys,
        rates,
        issuer=auth.issuer,
        public_url=auth.public_url,
        request_id=_request_id,
    )
    return Identities(
        access,
        managed.tenant_store,
        Upkeep(folder, revocations, api_keys, sessions),
        outside,
        (tokens_routes, administration.router(managed, access)),
    )


def _keys_of_setting(settings: Settings) -> KeySet:
    given = settings.auth.signing_key
    return keys_from_text(given.get_secret_value() if given else "")


def _rates(settings: Settings) -> routes.Rates:
    def rate(number: int) -> str | None:
        return f"{number}/minute" if number else None

    auth = settings.auth
    passwords, others = rate(auth.login_per_minute), rate(auth.token_requests_per_minute)
    storage = settings.state.redis_url.get_secret_value() if settings.state.redis_url else "memory://"
    key: Callable[..., str] = routes.address
    return routes.Rates(
        throttle.limiter(passwords or others or "10/minute", storage, key, settings.state.redis_prefix),
        passwords,
        others,
    )


def _request_id(http: Request) -> str:
    return str(http.scope["passerelle"].request_id)
