import pytest

pytest_plugins = ["tests.stores", "tests.vllm_server"]


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"
