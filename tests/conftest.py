import pytest

pytest_plugins = ["tests.stores"]


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"
