import hashlib
import sys
from pathlib import Path

import pytest

from serving import embedded
from serving.embedded import EMBEDDED, Embedded, EmbeddedError


def test_parts_are_joined_in_order_and_checked(tmp_path: Path) -> None:
    parts = [tmp_path / name for name in "abc"]
    for part in parts:
        part.write_text(part.name * 3)
    target = tmp_path / "joined"
    embedded.join(parts, target, hashlib.sha256(b"aaabbbccc").hexdigest())
    assert target.read_text() == "aaabbbccc"
    with pytest.raises(EmbeddedError, match=r"expected .*the files are not used"):
        embedded.join(parts[::-1], target, hashlib.sha256(b"aaabbbccc").hexdigest())


def test_files_are_found_by_metadata_without_importing_the_package() -> None:
    model = Embedded((("pytest", "__init__.py"),), "", 0, 0)
    [found] = embedded.find_parts(model, Path(sys.executable))
    assert found.is_file()
    assert found.name == "__init__.py"


@pytest.mark.parametrize("part", [("no-such-package", "model.gguf"), ("pytest", "no-such-file")])
def test_a_missing_package_or_file_tells_what_to_run(part: tuple[str, str]) -> None:
    with pytest.raises(EmbeddedError, match=r"run `make .venv-vllm/ready`"):
        embedded.find_parts(Embedded((part,), "", 0, 0), Path(sys.executable))


def test_the_cache_is_where_the_platform_keeps_caches() -> None:
    assert embedded.cache_folder({"PASSERELLE_CACHE": "/data/p", "XDG_CACHE_HOME": "/x"}) == Path("/data/p")
    assert embedded.cache_folder({"XDG_CACHE_HOME": "/x"}) == Path("/x/passerelle")
    assert embedded.cache_folder({}) == Path.home() / ".cache" / "passerelle"


@pytest.mark.parametrize("name", EMBEDDED)
def test_the_pinned_sums_are_whole_and_part_of_the_folders_name(name: str, tmp_path: Path) -> None:
    assert len(EMBEDDED[name].sha256) == 64
    assert EMBEDDED[name].sha256[:12] in embedded.prepared_folder(name, tmp_path).name


def test_a_prepared_model_is_not_prepared_again(tmp_path: Path) -> None:
    folder = embedded.prepared_folder("gemma-3-270m", tmp_path)
    folder.mkdir(parents=True)
    said: list[str] = []
    assert embedded.prepare("gemma-3-270m", Path("/no/python"), tmp_path, said.append) == folder
    assert said == []


def test_a_failed_preparation_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(EmbeddedError):
        embedded.prepare("gemma-3-270m", Path(sys.executable), tmp_path, print)
    assert list((tmp_path / "models").iterdir()) == []


def test_a_cache_that_cannot_be_written_names_the_setting(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(EmbeddedError, match="PASSERELLE_CACHE"):
        embedded.prepare("gemma-3-270m", Path(sys.executable), file, print)


@pytest.mark.vllm
@pytest.mark.timeout(300)
def test_the_small_embedded_model_becomes_a_folder_that_loads(vllm_python: Path, tmp_path: Path) -> None:
    from serving.model import read_dimensions
    from serving.profiles import find_profile

    said: list[str] = []
    folder = embedded.prepare("smollm2-135m-instruct", vllm_python, tmp_path, said.append)
    assert {file.name for file in folder.iterdir()} >= {"config.json", "model.safetensors", "tokenizer.json"}
    assert "quantization_config" not in (folder / "config.json").read_text()
    assert read_dimensions(folder) == find_profile("smollm2-135m-instruct").known
    assert any("weights" in line for line in said)
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
