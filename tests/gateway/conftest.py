from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.house import House, house


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
        guards={"language": {"mode": "annotate"}, "terms": {"terms": ["zorglub"]}},
    ) as running:
        yield running
