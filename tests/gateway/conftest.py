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
    """A gateway that only annotates the language, for tests whose text is not the point."""
    async with house(tmp_path, guards={"language": {"mode": "annotate"}, "terms": {"terms": ["zorglub"]}}) as running:
        yield running
