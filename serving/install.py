"""Make the model server's environment: vLLM, torch and, on a CPU, the embedded models.

Runs with nothing but the standard library and uv, before anything of ours is installed. The environment is never shared
with the gateway's: vLLM pins its own FastAPI and weighs gigabytes. A file named `ready` is written last, so an
interrupted install never looks finished; running it again starts over from uv's cache.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import IO

HERE = Path(__file__).resolve().parent
TORCH = "2.13.0+cpu"
TORCH_INDEX = "https://download.pytorch.org/whl/cpu"
PROBE_SECONDS = 5.0
HEARTBEAT_SECONDS = 15.0

# The one build of torch that was tried here. PyTorch's index lists hashes for the other Pythons and for aarch64, but
# nobody of this project has run them, so for those the index (TLS) or the owner of the local folder is trusted.
TORCH_SHA256 = {("cp311", "x86_64"): "6746dbcbeb526eb61330b76b41ff1b4eb848951103a892eeb080dfa2b264667b"}

EXAMPLE = """example:
  python serving/install.py --venv .venv-vllm --uv .venv/bin/uv
  PIP_FIND_LINKS=/data/wheels python serving/install.py --device cpu
"""


class InstallError(Exception):
    """The environment cannot be made; the sentence says why and what to do next."""


@dataclass(frozen=True)
class Target:
    """What the environment is for: `device` is cpu or cuda, `python` is like cp311, `machine` is like x86_64."""

    device: str
    python: str
    machine: str

    @property
    def requirements(self) -> Path:
        """The hash lock for the device."""
        return HERE / f"requirements-{self.device}.txt"

    def fingerprint(self) -> str:
        """What `ready` holds: changes when the lock, the device, the Python or torch do."""
        lock = hashlib.sha256(self.requirements.read_bytes()).hexdigest()
        return f"{self.device} {self.python} {self.machine} torch {TORCH} lock {lock}\n"


def say(text: str) -> None:
    """One line of progress, at once also through a pipe."""
    print(f"passerelle: {text}", flush=True)  # noqa: T201 - a script talks to its terminal


def this_python() -> str:
    """The tag of the running interpreter, as wheel file names write it."""
    return f"cp{sys.version_info.major}{sys.version_info.minor}"


def gpu_answers(command: str = "nvidia-smi") -> bool:
    """True when an NVIDIA driver answers with at least one GPU."""
    path = shutil.which(command)
    if path is None:
        return False
    try:
        found = subprocess.run([path, "-L"], capture_output=True, text=True, timeout=20, check=False)  # noqa: S603 - fixed
    except (OSError, subprocess.TimeoutExpired):
        return False
    return found.returncode == 0 and found.stdout.startswith("GPU ")


def choose_device(wanted: str | None, gpu: bool) -> str:
    """What was asked for, else cuda where a GPU answers."""
    return wanted or ("cuda" if gpu else "cpu")


def check_platform(system: str, machine: str) -> None:
    """Raise InstallError where neither build of vLLM has a wheel."""
    if system != "Linux" or machine not in {"x86_64", "aarch64"}:
        raise InstallError(
            f"vLLM's wheels are for Linux on x86_64 or aarch64, this is {system} on {machine}: run the model server on "
            "a Linux machine, or name an environment of your own with PASSERELLE_VLLM_PYTHON"
        )


def local_folders(environment: dict[str, str], pip_config: str) -> list[Path]:
    """Folders of wheels that the user already told pip or uv about, in that order, without repeats.

    `pip_config` is the output of `pip config list`: lines `section.key='value'`. Only folders count, not addresses.
    """
    words = environment.get("PIP_FIND_LINKS", "").split()
    words += environment.get("UV_FIND_LINKS", "").replace(",", " ").split()
    for line in pip_config.splitlines():
        key, _, value = line.partition("=")
        if key.endswith(".find-links"):
            words += str(ast.literal_eval(value)).split()
    folders = [
        Path(urllib.parse.unquote(word.removeprefix("file://"))).expanduser() for word in words if "http" not in word
    ]
    return [folder for folder in dict.fromkeys(folders) if folder.is_dir()]


def find_torch(folders: list[Path], python: str, machine: str) -> Path | None:
    """The torch wheel for this Python and machine in one of the folders.

    Raises InstallError when its SHA-256 is known and differs.
    """
    for folder in folders:
        for wheel in sorted(folder.glob(f"torch-{TORCH}-{python}-{python}-*{machine}.whl")):
            check_sum(wheel, TORCH_SHA256.get((python, machine)))
            return wheel
    return None


def check_sum(file: Path, expected: str | None) -> None:
    """Raise InstallError when the file's SHA-256 is known and differs; stay quiet when none is known."""
    if expected is None:
        return
    with file.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != expected:
        raise InstallError(f"{file} has SHA-256 {found}, expected {expected}: remove the file and fetch it again")


def index_answers(index: str = TORCH_INDEX, seconds: float = PROBE_SECONDS) -> bool:
    """True when the index answers within the limit, name resolution included (which urllib's own limit leaves out)."""
    answers: list[bool] = []

    def ask() -> None:
        try:
            with urllib.request.urlopen(f"{index}/torch/", timeout=seconds) as reply:  # noqa: S310 - https, ours
                answers.append(reply.status == 200)
        except (urllib.error.URLError, OSError, ValueError):
            answers.append(False)

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(seconds)
    return bool(answers and answers[0])


def pip_config() -> str:
    """What `pip config list` prints, empty without pip."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - fixed words
    return found.stdout if found.returncode == 0 else ""


def torch_arguments(target: Target, folders: list[Path], index: str = TORCH_INDEX) -> list[str]:
    """The words after `uv pip install --no-deps` that bring torch; says where from.

    Raises InstallError when the wheel is in no folder and the index does not answer.
    """
    wheel = find_torch(folders, target.python, target.machine)
    if wheel is not None:
        say(f"torch {TORCH} from {wheel} ({wheel.stat().st_size / 1e6:.0f} MB)")
        return [str(wheel)]
    say(f"torch {TORCH} from {index} (about 190 MB)")
    if not index_answers(index):
        looked = ", ".join(map(str, folders)) or "no local folder is configured"
        raise InstallError(
            f"torch {TORCH} for {target.python} on {target.machine} is not on this machine ({looked}) and {index} did not "
            f"answer within {PROBE_SECONDS:.0f} seconds: download that wheel elsewhere, put it in a folder and run again "
            "with PIP_FIND_LINKS=that-folder"
        )
    return ["--index-url", index, f"torch=={TORCH}"]


def relay(stream: IO[str]) -> None:
    """Pass on what uv says, without its hundred and fifty lines of package names."""
    for line in stream:
        if not line.startswith((" + ", " - ")):
            print(line, end="", flush=True)  # noqa: T201


def run(command: list[str], what: str) -> None:
    """Run one step, saying every few seconds that it is still at work. Raises InstallError when it fails."""
    started = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:  # noqa: S603
        assert process.stdout is not None  # noqa: S101 - a pipe was asked for
        threading.Thread(target=relay, args=[process.stdout], daemon=True).start()
        try:
            while process.poll() is None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(HEARTBEAT_SECONDS)
                if process.returncode is None:
                    say(f"{what}: still at work, {time.monotonic() - started:.0f} s")
        except BaseException:
            process.terminate()
            raise
    if process.returncode:
        raise InstallError(f"{what} failed (exit code {process.returncode}); the reason is above. Run again to retry")
    say(f"{what}: done in {time.monotonic() - started:.0f} s")


def install(venv: Path, uv: str, target: Target) -> None:
    """Make `venv` for `target`; nothing to do when its `ready` already says so. Raises InstallError."""
    ready = venv / "ready"
    if ready.is_file() and ready.read_text() == target.fingerprint():
        say(f"{venv} is up to date")
        return
    started = time.monotonic()
    ready.unlink(missing_ok=True)
    torch: list[str] = []
    if target.device == "cpu":
        say(f"model server environment {venv} for the CPU: 0.9 GB to download, 2.4 GB on disk, 1 to 10 minutes")
        torch = torch_arguments(target, local_folders(dict(os.environ), pip_config()))
    else:
        say(f"model server environment {venv} for NVIDIA GPUs: about 5 GB to download, 11 GB on disk, 5 to 30 minutes")
    run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(venv)], "empty environment")
    python = str(venv / "bin" / "python")
    pip = [uv, "pip", "install", "--python", python, "--no-deps"]
    if torch:
        run([*pip, *torch], "torch")
    run([*pip, "--require-hashes", "-r", str(target.requirements)], "vLLM and what it needs")
    run([python, "-c", "import torch, importlib.util as u; assert u.find_spec('vllm'), 'vllm'"], "check")
    ready.write_text(target.fingerprint())
    say(f"{venv} is ready ({time.monotonic() - started:.0f} s)")


def main(argv: list[str] | None = None) -> int:
    """0 when the environment is ready, 1 with one sentence when it cannot be."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--venv", type=Path, default=Path(".venv-vllm"), help="where the environment goes")
    parser.add_argument("--uv", default="uv", help="the uv to use (default: the one on PATH)")
    parser.add_argument("--device", choices=["cpu", "cuda"], help="default: cuda where an NVIDIA GPU answers, else cpu")
    options = parser.parse_args(argv)
    target = Target(choose_device(options.device, gpu_answers()), this_python(), platform.machine())
    try:
        check_platform(platform.system(), target.machine)
        install(options.venv, options.uv, target)
    except InstallError as error:
        print(f"passerelle: {error}", file=sys.stderr)  # noqa: T201
        return 1
    except KeyboardInterrupt:
        print("passerelle: interrupted; run the same command again to go on", file=sys.stderr)  # noqa: T201
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
