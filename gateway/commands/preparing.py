"""What a worker makes sure of before it accepts anything: the database's tables, and that Redis takes our password."""

from __future__ import annotations

from redis.exceptions import AuthenticationError, AuthorizationError, RedisError, ResponseError
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from auth import database, schema
from auth.errors import AuthError, BadConfiguration, StoreUnavailable
from gateway.ledger import LINEAGE
from gateway.limits.shared import connect
from gateway.settings import BadSettings, Settings, State


async def prepare(settings: Settings) -> None:
    """Bring the tables to their newest revision, and greet Redis. A Redis that is away is no reason not to start.

    Raises:
        BadSettings: the database cannot be used, or Redis refuses the password.
        BadConfiguration: the database is a newer Passerelle's.
    """
    await _tables(settings.state)
    await _redis(settings.state)


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
    url = state.redis_url.get_secret_value()
    client = connect(url)
    try:
        await client.ping()
    except (AuthenticationError, AuthorizationError, ResponseError) as error:
        said = f"{str(error).rstrip('.')[:120]}"
        raise BadSettings(f"state.redis_url holds {shown(url)}, which refuses us: {said}.") from None
    except (RedisError, OSError, TimeoutError):
        pass  # [fail_policy] says what happens then
    finally:
        await client.aclose()


def shown(url: str) -> str:
    """An address as it may be told: without a password, and without options, which may hold one too."""
    parsed = make_url(url)
    return repr(parsed.set(password=None, query={}).render_as_string())


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
