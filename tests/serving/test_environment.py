import sys
from pathlib import Path

import pytest

from serving.environment import EnvironmentMissingError, built_for, find_python


def venv(folder: Path, ready: str | None) -> Path:
    python = folder / ".venv-vllm" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    if ready is not None:
        (folder / ".venv-vllm" / "ready").write_text(ready)
    return python


def test_the_option_wins_over_the_variable_and_both_over_the_folder(tmp_path: Path) -> None:
    venv(tmp_path, "cpu")
    environment = {"PASSERELLE_VLLM_PYTHON": "/bin/sh"}
    assert find_python(Path("/bin/cat"), environment, [tmp_path]) == Path("/bin/cat")
    assert find_python(None, environment, [tmp_path]) == Path("/bin/sh")


def test_the_environment_in_the_folder_is_found_and_says_what_it_was_built_for(tmp_path: Path) -> None:
    python = venv(tmp_path, "cpu cp311 x86_64\n")
    assert find_python(None, {}, [tmp_path / "elsewhere", tmp_path]) == python
    assert built_for(python) == "cpu"
    assert built_for(Path("/usr/bin/python3")) is None


def test_an_interrupted_install_is_not_used(tmp_path: Path) -> None:
    venv(tmp_path, None)
    with pytest.raises(EnvironmentMissingError, match=r"unfinished: run `make .venv-vllm/ready`"):
        find_python(None, {}, [tmp_path])


@pytest.mark.parametrize("first_line", ["#!{python}", "#!/bin/sh"])
def test_the_vllm_on_path_names_its_python(tmp_path: Path, first_line: str) -> None:
    python = tmp_path / "python"
    python.symlink_to(sys.executable)
    script = tmp_path / "vllm"
    script.write_text(first_line.format(python=python) + "\n")
    script.chmod(0o755)
    assert find_python(None, {"PATH": str(tmp_path)}, []) == python


def test_nothing_found_tells_what_to_run() -> None:
    with pytest.raises(EnvironmentMissingError, match=r"run `make .venv-vllm/ready`.*PASSERELLE_VLLM_PYTHON"):
        find_python(None, {"PATH": "/nowhere"}, [])


def test_a_setting_that_is_no_program_is_told() -> None:
    with pytest.raises(EnvironmentMissingError, match="/nowhere/python"):
        find_python(None, {"PASSERELLE_VLLM_PYTHON": "/nowhere/python"}, [])
