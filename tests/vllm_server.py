"""Fixtures that start real vLLM on the CPU; load them with `pytest_plugins = ["tests.vllm_server"]`."""

import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from serving.environment import EnvironmentMissingError, find_python
from serving.plan import Options
from serving.prepare import prepare
from serving.server import ModelServer

MAKE_TINY_FALCON = Path(__file__).parent / "serving" / "make_tiny_falcon.py"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def vllm_python() -> Path:
    try:
        return find_python()
    except EnvironmentMissingError as error:
        pytest.fail(f"this test needs the model server's environment: {error}", pytrace=False)


@pytest.fixture(scope="session")
def tiny_falcon(vllm_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny-falcon"
    folder.mkdir()
    made = subprocess.run(
        [vllm_python, "-I", MAKE_TINY_FALCON, folder], capture_output=True, text=True, timeout=120, check=False
    )
    assert made.returncode == 0, made.stderr[-2000:]
    return folder


@pytest.fixture(scope="session")
def tiny_falcon_server(
    vllm_python: Path, tiny_falcon: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ModelServer]:
    options = Options(model=str(tiny_falcon), cpu=True, port=free_port(), vllm_python=vllm_python)
    plan = prepare(options, print)
    with ModelServer(plan, log=tmp_path_factory.mktemp("logs") / "vllm.log", progress=print) as server:
        yield server
