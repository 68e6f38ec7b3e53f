"""The SDK for Node.js is pinned, comes from wherever npm is told to look, and its absence is told in a sentence."""

import json
from pathlib import Path

import pytest

from tests.contract.node_client import HERE, KEPT, NotInstalled, installed

LOCK = (HERE / "package-lock.json").read_text(encoding="utf-8")


def test_every_package_is_locked_with_its_hash() -> None:
    packages = {name: package for name, package in json.loads(LOCK)["packages"].items() if name}
    wanted = json.loads((HERE / "package.json").read_text(encoding="utf-8"))["dependencies"]
    assert {f"node_modules/{name}": version for name, version in wanted.items()}.items() <= {
        name: package["version"] for name, package in packages.items()
    }.items()
    assert [name for name, package in packages.items() if not package["integrity"].startswith("sha512-")] == []


def test_the_lock_names_no_registry() -> None:
    assert "://" not in LOCK
    assert "resolved" not in LOCK


def test_without_a_registry_a_sentence_says_so_and_nothing_half_made_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("npm_config_registry", "http://127.0.0.1:9")  # nobody listens at the discard port
    monkeypatch.setenv("npm_config_cache", str(tmp_path / "cache"))
    with pytest.raises(NotInstalled, match="takes a reachable npm registry"):
        installed(tmp_path / "kept")
    assert list((tmp_path / "kept").iterdir()) == []


@pytest.mark.usefixtures("node")
def test_what_was_installed_is_found_again_without_a_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("npm_config_registry", "http://127.0.0.1:9")
    assert (installed(KEPT) / "node_modules" / "openai" / "package.json").exists()
