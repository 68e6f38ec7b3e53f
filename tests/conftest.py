import gc

import pytest
from hypothesis import settings

settings.register_profile("shared", deadline=None)  # a machine that others use too makes any example slow
settings.load_profile("shared")

pytest_plugins = ["tests.stores", "tests.vllm_server"]


def pytest_collection_finish() -> None:
    """What is there before the first test stays: to look through it for garbage takes a second, and some limits are one."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"
