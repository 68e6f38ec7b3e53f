"""The lock files satisfy pyproject.toml, and the README says why each dependency is there."""

import fnmatch
import re
import tomllib
from collections.abc import Iterable

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.architecture.sources import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]


def wanted(*extras: str) -> list[Requirement]:
    """The direct dependencies, those of `extras` included; an extra may name another one of ours."""
    lines = [*PROJECT["dependencies"], *(line for extra in extras for line in EXTRAS[extra])]
    return [Requirement(line) for line in lines if not line.startswith(PROJECT["name"])]


def locked(text: str) -> dict[str, tuple[list[Version], bool]]:
    """What a lock file pins: name -> its versions (markers may give several), and whether each has a hash."""
    found: dict[str, tuple[list[Version], bool]] = {}
    for entry in re.split(r"\n(?=[A-Za-z0-9])", text):
        if pin := re.match(r"([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==([^\s;\\]+)", entry):
            versions, hashed = found.get(canonicalize_name(pin[1]), ([], True))
            found[canonicalize_name(pin[1])] = ([*versions, Version(pin[2])], hashed and "--hash=sha256:" in entry)
    return found


def unsatisfied(requirements: Iterable[Requirement], text: str) -> list[str]:
    lock = locked(text)
    problems = []
    for requirement in requirements:
        versions, hashed = lock.get(canonicalize_name(requirement.name), ([], False))
        if not versions:
            problems.append(f"{requirement.name} is not locked")
        elif not hashed:
            problems.append(f"{requirement.name} has no hash")
        elif not all(requirement.specifier.contains(version, prereleases=True) for version in versions):
            problems.append(f"{requirement.name} is locked to {versions}, but {requirement.specifier} is wanted")
    return problems


@pytest.mark.parametrize(
    ("file", "extras"), [("gateway.txt", ()), ("dev.txt", ("dev", "load"))], ids=["gateway", "development"]
)
def test_every_direct_dependency_is_locked_with_its_hash(file: str, extras: tuple[str, ...]) -> None:
    assert unsatisfied(wanted(*extras), (ROOT / "requirements" / file).read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("file", ["gateway.txt", "dev.txt", "uv.txt"])
def test_everything_that_is_locked_has_a_hash(file: str) -> None:
    lock = locked((ROOT / "requirements" / file).read_text(encoding="utf-8"))
    assert lock
    assert [name for name, (_, hashed) in lock.items() if not hashed] == []


def test_both_lock_files_agree_on_what_both_hold() -> None:
    gateway, dev = (locked((ROOT / "requirements" / f"{name}.txt").read_text("utf-8")) for name in ("gateway", "dev"))
    assert {name: pins[0] for name, pins in gateway.items() if dev.get(name, ([], 0))[0] != pins[0]} == {}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "aiohttp is not locked"),
        ("aiohttp-extra==3.14.5 \\\n    --hash=sha256:00\n", "aiohttp is not locked"),
        ("aiohttp==3.14.5\nother==1 \\\n    --hash=sha256:00\n", "aiohttp has no hash"),
        ("aiohttp==2.0 \\\n    --hash=sha256:00\n", "is wanted"),
        ("aiohttp==3.14.5 ; a \\\n    --hash=sha256:00\naiohttp==2.0 ; b \\\n    --hash=sha256:00\n", "is wanted"),
    ],
)
def test_a_lock_that_does_not_satisfy_is_noticed(text: str, problem: str) -> None:
    assert problem in unsatisfied([Requirement("aiohttp>=3.14,<4")], text)[0]


def explained(readme: str) -> list[str]:
    """The names in back-ticks of the README's section "Why each dependency"."""
    _, _, section = readme.partition("## Why each dependency")
    return re.findall(r"`([^`\n]+)`", section.partition("\n## ")[0])


def test_the_readme_says_why_each_dependency_is_there() -> None:
    names = explained((ROOT / "README.md").read_text(encoding="utf-8"))
    missing = [
        requirement.name
        for requirement in wanted("load", "dev")
        if not any(fnmatch.fnmatch(requirement.name, name) for name in names)
    ]
    assert missing == []


def test_a_dependency_outside_the_section_is_not_explained() -> None:
    assert explained("`a`\n## Why each dependency\n| `b`, `c-*` | x |\n## Next\n`d`") == ["b", "c-*"]
