"""What the checks of the deployment share."""

import shutil
from pathlib import Path

import pytest

from tests.deploy.document import ROOT

# Made elsewhere in the repository; a checkout without them is checked with empty ones in their place.
_OTHERS = ("deploy/prometheus", "deploy/grafana/provisioning", "deploy/grafana/dashboards")


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository's files that the deployment names."""
    if all((ROOT / path).exists() for path in _OTHERS):
        return ROOT
    copy = tmp_path_factory.mktemp("repository")
    for path in ("deploy", "serving/templates"):
        shutil.copytree(ROOT / path, copy / path)
    for name in ("Makefile", ".dockerignore"):
        shutil.copy(ROOT / name, copy)
    for path in _OTHERS:
        (copy / path).mkdir(parents=True, exist_ok=True)
    return copy
