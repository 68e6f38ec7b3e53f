from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from auth import database, schema
from gateway.ledger import LINEAGE
from tests.collector import Collector, collector
from tests.house import LOOKING_ON, House, house


@pytest.fixture
async def bare_engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    """A database without tables."""
    made = database.engine(database_url)
    yield made
    await made.dispose()


@pytest.fixture
async def ready_engine(bare_engine: AsyncEngine) -> AsyncEngine:
    """A database with the ledger's tables."""
    await schema.prepare(bare_engine, LINEAGE)
    return bare_engine


@pytest.fixture
async def engine(bare_engine: AsyncEngine) -> AsyncEngine:
    """A database with the tables of users and keys."""
    await schema.prepare(bare_engine)
    return bare_engine


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[House]:
    """A gateway with its defaults: language and terms in `enforce`."""
    async with house(tmp_path) as running:
        yield running


@pytest.fixture
async def plain_home(tmp_path: Path) -> AsyncIterator[House]:
    """A gateway that only annotates the language and never leaves a replica alone: for tests of one answer at a time."""
    async with house(
        tmp_path,
        routing={"failures": 1_000_000},
        guards={**LOOKING_ON, "terms": {"terms": ["zorglub"]}},
    ) as running:
        yield running


@pytest.fixture
async def traces() -> AsyncIterator[Collector]:
    """A collector of traces."""
    async with collector() as made:
        yield made
