"""The container files: pinned, hashed, not root, and made of files that are there."""

import re
from pathlib import Path

import pytest

from tests.deploy.dockerfile import Dockerfile, ignored, pinned, problems
from tests.deploy.document import ROOT

FILES = sorted((ROOT / "deploy").glob("*.Dockerfile"))
GOOD = """\
FROM python:3.11.14-slim-bookworm AS build
COPY pyproject.toml ./
RUN python -m pip install --require-hashes -r lock.txt \\
 && python -m pip install wheels/*.whl
FROM python:3.11.14-slim-bookworm
COPY --from=build /x /x
USER 10001:10001
ENTRYPOINT ["passerelle"]
"""


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_nothing_is_wrong_with_ours(path: Path) -> None:
    assert problems(path, ROOT) == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_both_stages_have_the_same_python_and_debian_so_that_an_environment_can_be_copied(path: Path) -> None:
    bases = [base.split()[0] for base in Dockerfile.read(path).all("FROM")]
    assert len({base.replace("-slim-", "-") for base in bases}) == 1
    assert len(bases) == 1 or "-slim-" in bases[-1]


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("python:3.11.14-slim-bookworm AS build", "python:latest AS build", "base python:latest is not pinned"),
        ("python:3.11.14-slim-bookworm AS build", "python AS build", "base python is not pinned"),
        ("COPY pyproject.toml", "COPY setup.py", "COPY setup.py: there is no such file"),
        ("COPY pyproject.toml", "COPY Makefile", "COPY Makefile: .dockerignore leaves it out"),
        ("USER 10001:10001\n", "", "runs as root"),
        ("USER 10001:10001", "USER root", "runs as root"),
        ("--require-hashes ", "", "RUN python -m pip install -r lock.txt   : unchecked download"),
    ],
)
def test_each_fault_is_reported(tmp_path: Path, old: str, new: str, problem: str) -> None:
    file = tmp_path / "Dockerfile"
    file.write_text(GOOD)
    assert problems(file, ROOT) == []
    file.write_text(GOOD.replace(old, new))
    assert [" ".join(found.split()) for found in problems(file, ROOT)] == [" ".join(problem.split())]


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ("redis:8.4.0-alpine", True),
        ("vllm/vllm-openai:v0.24.0", True),
        (f"redis:8.4@sha256:{'a' * 64}", True),
        ("redis", False),
        ("redis:latest", False),
        ("redis:8", False),
        ("redis:alpine", False),
        ("", False),
    ],
)
def test_a_pin_is_a_version_with_two_numbers(image: str, expected: bool) -> None:
    assert pinned(image) is expected


@pytest.mark.parametrize(
    ("source", "expected"),
    [("gateway", False), ("deploy/probe.py", False), ("deploy/.env.example", True), (".env", True), (".git", True)],
)
def test_secrets_and_history_stay_out_of_the_build(source: str, expected: bool) -> None:
    assert ignored(source, (ROOT / ".dockerignore").read_text().splitlines()) is expected


def test_the_build_uses_the_setuptools_of_the_lock() -> None:
    hashed = re.compile(r"^setuptools==[^\n]*\\\n(?:    --hash=[^\n]*\n?)+", re.MULTILINE)
    locked, build = (
        hashed.search(path.read_text()) for path in (ROOT / "requirements" / "dev.txt", ROOT / "deploy" / "build.txt")
    )
    assert locked is not None
    assert build is not None
    assert build[0].split() == locked[0].split()
