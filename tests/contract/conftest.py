from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.contract import python_client
from tests.contract.calls import Sdk
from tests.contract.node_client import NodeClient, NotInstalled
from tests.contract.scenario import TERM
from tests.house import House, house


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> NodeClient:
    try:
        return NodeClient.prepared(tmp_path_factory.mktemp("node"))
    except NotInstalled as error:
        pytest.fail(str(error), pytrace=False)


@pytest.fixture(params=["python", "node"])
def sdk(request: pytest.FixtureRequest) -> Sdk:
    """Each official SDK in turn."""
    if request.param == "python":
        return python_client.play
    client: NodeClient = request.getfixturevalue("node")
    return client.play


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[House]:
    """A gateway as it is delivered, which also makes embeddings, forbids a term and is never silent for long."""
    async with house(
        tmp_path,
        guards={"terms": {"terms": [TERM]}},
        targets={"local": {"tasks": ["chat", "completions", "embeddings"]}},
        times={"keep_alive": 0.1},
    ) as running:
        yield running
