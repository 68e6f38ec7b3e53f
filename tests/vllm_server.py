"""Fixtures that start real vLLM on the CPU; load them with `pytest_plugins = ["tests.vllm_server"]`.

All are of session scope: one vLLM for the whole run, ready in about 30 s on two idle cores and stopped with the run. Mark what
uses them `@pytest.mark.vllm` and `@pytest.mark.timeout(400)`: the start counts as part of the first test.
"""

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
    """The Python that has vLLM; the test fails, and is not skipped, where there is none."""
    try:
        return find_python()
    except EnvironmentMissingError as error:
        pytest.fail(f"this test needs the model server's environment: {error}", pytrace=False)


@pytest.fixture(scope="session")
def tiny_falcon(vllm_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a FalconForCausalLM of random weights: its answers are no language, the same ones at temperature 0."""
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
    """vLLM serving `tiny_falcon` under our Falcon template: a `serving.server.ModelServer` that is ready.

    `base_url` is what an OpenAI client or a target takes (http://127.0.0.1:PORT/v1, no key), `served_name` the model's name in
    requests (tiny-falcon), `context_length` 1024 tokens, `defaults` empty, `plan.url` the root that has /health and
    /metrics, `plan.port` the port. Never stop it in a test: others use it.
    """
    options = Options(model=str(tiny_falcon), cpu=True, port=free_port(), vllm_python=vllm_python)
    plan = prepare(options, print)
    with ModelServer(plan, log=tmp_path_factory.mktemp("logs") / "vllm.log", progress=print) as server:
        yield server
