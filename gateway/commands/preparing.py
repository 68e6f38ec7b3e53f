"""What a worker makes sure of before it accepts anything: its folder, the database's tables, that Redis takes our password."""

from __future__ import annotations

import tempfile
from contextlib import suppress

from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from auth import database, schema
from auth.errors import AuthError, BadConfiguration, StoreUnavailable
from gateway.guardrails.classifier import BadModel
from gateway.guardrails.guards import Guards
from gateway.ledger import LINEAGE, journal_folder
from gateway.settings import BadSettings, Settings, State


def check_addresses(state: State) -> None:
    """Raises BadSettings for an address that no database or Redis of ours can have; nothing is asked."""
    try:
        database.normalise(state.database())
    except BadConfiguration:
        raise BadSettings(
            "state.database_url holds no address of a database: write sqlite:///file or postgresql://user@host/database."
        ) from None
    if state.redis_url is None:
        return
    from redis.asyncio.connection import parse_url  # and with it Redis's client: see `app`

    try:
        parse_url(state.redis_url.get_secret_value())
    except ValueError:
        raise BadSettings(
            "state.redis_url holds no address of a Redis: write redis://host:6379/0, or rediss://... for TLS."
        ) from None


def check_folder(state: State) -> None:
    """Make the journal's folder, and try to write there; raises BadSettings."""
    folder = journal_folder(state.directory)
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"x")
    except OSError as error:
        raise BadSettings(
            f"state.directory holds {str(state.directory)!r}, which cannot be used: {error.strerror} ({folder})."
        ) from None


async def prepare(settings: Settings) -> None:
    """Bring the tables to their newest revision, greet Redis, read the guards' models. A Redis that is away does not matter.

    Raises:
        BadSettings: the database cannot be used, or Redis refuses the password.
        BadConfiguration: the database is a newer Passerelle's.
    """
    await _tables(settings.state)
    await _redis(settings.state)
    with suppress(BadModel):  # a request meets it again, and [fail_policy] says what becomes of that
        Guards(settings.guards).load()


async def _tables(state: State) -> None:
    engine = database.engine(state.database())
    try:
        for lineage in (schema.AUTH, LINEAGE):
            await schema.prepare(engine, lineage)
    except (BadConfiguration, BadSettings):
        raise
    except (AuthError, SQLAlchemyError, OSError) as error:
        raise BadSettings(f"state.database_url holds {shown(state.database())}, which {_reason(error)}.") from None
    finally:
        await engine.dispose()


async def _redis(state: State) -> None:
    if state.redis_url is None:
        return
    from redis.exceptions import AuthenticationError, AuthorizationError, RedisError, ResponseError

    from gateway.limits.shared import connect

    url = state.redis_url.get_secret_value()
    client = connect(url)
    try:
        await client.ping()
    except (AuthenticationError, AuthorizationError, ResponseError) as error:
        said = str(error).rstrip(".")[:120]
        raise BadSettings(f"state.redis_url holds {shown(url)}, which refuses us: {said}.") from None
    except (RedisError, OSError, TimeoutError):
        pass  # [fail_policy] says what happens then
    finally:
        await client.aclose()


def shown(url: str) -> str:
    """An address as it may be told: its password hidden, and without options, which may hold one too."""
    return repr(make_url(url).set(query={}).render_as_string())


def _reason(error: Exception) -> str:
    """Why a database cannot be used, in the driver's own words; none of them holds a password."""
    cause: BaseException | None = error
    while isinstance(cause, StoreUnavailable | SQLAlchemyError) and (
        inner := getattr(cause, "orig", None) or cause.__cause__
    ):
        cause = inner.__cause__ if inner.__cause__ is not None else inner
    if isinstance(cause, TimeoutError):
        return "does not answer"
    said = " ".join(str(cause).split()).rstrip(".")[:160]
    return f"cannot be used: {said or type(cause).__name__}"
