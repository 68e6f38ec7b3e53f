import pytest
from hypothesis import settings

settings.register_profile("shared", deadline=None)  # a machine that others use too makes any example slow
settings.load_profile("shared")

pytest_plugins = ["tests.stores", "tests.vllm_server"]


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"
