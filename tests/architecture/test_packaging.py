"""What is installed: every file a package needs at run time is among its data, and every pattern finds something."""

import fnmatch
import tomllib

import pytest

from tests.architecture.sources import PACKAGES, ROOT

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
DATA: dict[str, list[str]] = PYPROJECT["tool"]["setuptools"]["package-data"]
NOT_INSTALLED = ("*.in",)  # what lock files are made from


def unlisted(files: list[str], patterns: list[str]) -> list[str]:
    """Files that an installation would lack."""
    kept = [file for file in files if not any(fnmatch.fnmatch(file, pattern) for pattern in NOT_INSTALLED)]
    return [file for file in kept if not any(fnmatch.fnmatch(file, pattern) for pattern in patterns)]


@pytest.mark.parametrize("package", PACKAGES)
def test_every_data_file_of_a_package_is_installed_with_it(package: str) -> None:
    folder = ROOT / package
    paths = [path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    files = [path.relative_to(folder).as_posix() for path in paths if path.suffix != ".py"]
    assert unlisted(files, DATA.get(package, [])) == []


@pytest.mark.parametrize(("package", "pattern"), [(name, pattern) for name, some in DATA.items() for pattern in some])
def test_every_pattern_of_package_data_finds_a_file(package: str, pattern: str) -> None:
    assert list((ROOT / package).glob(pattern))


def test_a_file_that_is_not_listed_is_noticed() -> None:
    assert unlisted(["a/x.toml", "b.jinja", "c.in"], ["a/*.toml"]) == ["b.jinja"]


def test_every_folder_with_python_in_it_is_a_package() -> None:
    folders = {path.parent for package in PACKAGES for path in (ROOT / package).rglob("*.py")}
    assert [folder for folder in folders if not (folder / "__init__.py").exists()] == []


def test_every_package_is_found_by_the_build() -> None:
    patterns = PYPROJECT["tool"]["setuptools"]["packages"]["find"]["include"]
    assert all(any(fnmatch.fnmatch(package, pattern) for pattern in patterns) for package in PACKAGES)


def test_the_command_is_installed() -> None:
    assert PYPROJECT["project"]["scripts"] == {"passerelle": "gateway.cli:entry"}
