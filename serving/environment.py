"""Find the Python that has vLLM: by setting, then `.venv-vllm`, then the interpreter of the `vllm` on PATH."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from serving.errors import ServingError

SETTING = "PASSERELLE_VLLM_PYTHON"
PROJECT = Path(__file__).resolve().parent.parent


class EnvironmentMissingError(ServingError):
    """No usable environment for the model server; the sentence says what was looked at and what to do next."""


def find_python(
    chosen: Path | None = None,
    environment: Mapping[str, str] | None = None,
    folders: Sequence[Path] | None = None,
) -> Path:
    """The Python that runs vLLM. `chosen` (--vllm-python) wins over $PASSERELLE_VLLM_PYTHON.

    `folders` are searched for `.venv-vllm`: by default the current folder, then the project's. Raises
    EnvironmentMissingError, also when `.venv-vllm` is there but its install was interrupted.
    """
    values = os.environ if environment is None else environment
    setting = str(chosen) if chosen else values.get(SETTING)
    if setting:
        return _executable(setting)
    for folder in folders if folders is not None else (Path.cwd(), PROJECT):
        venv = folder / ".venv-vllm"
        if (venv / "ready").is_file():
            return venv / "bin" / "python"
        if venv.is_dir():
            raise EnvironmentMissingError(f"{venv} is unfinished: run `make .venv-vllm/ready` again")
    script = shutil.which("vllm", path=values.get("PATH"))
    if script:
        return _interpreter(Path(script))
    raise EnvironmentMissingError(
        f"vLLM is not installed: no .venv-vllm here, no `vllm` on PATH; run `make .venv-vllm/ready`, or name the Python of "
        f"another environment with --vllm-python or {SETTING}"
    )


def built_for(python: Path) -> str | None:
    """`cpu` or `cuda`, as install.py wrote it into the environment's `ready`; None for an environment of another making."""
    ready = python.parent.parent / "ready"
    device = ready.read_text().partition(" ")[0] if ready.is_file() else ""
    return device if device in {"cpu", "cuda"} else None


def _executable(setting: str) -> Path:
    path = Path(setting).expanduser()
    if not (path.is_file() and os.access(path, os.X_OK)):
        raise EnvironmentMissingError(
            f"{path} (from --vllm-python or {SETTING}) is no program: give the path of a Python"
        )
    return path.absolute()


def _interpreter(script: Path) -> Path:
    """The Python named in the first line of an installed console script, else the one beside it."""
    first = script.read_bytes().partition(b"\n")[0].decode(errors="replace")
    named = Path(first.removeprefix("#!").strip())
    if first.startswith("#!/") and named.name.startswith("python") and named.is_file():
        return named
    beside = script.resolve().parent / "python"
    if beside.is_file():
        return beside
    raise EnvironmentMissingError(f"{script} does not say which Python it runs: name that Python with {SETTING}")
