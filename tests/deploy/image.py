"""What the gateway's image weighs: its build stage run in a clean folder, without an engine, and its parts summed up.

    python -m tests.deploy.image --python python3.11 --folder build/image

Each step of deploy/gateway.Dockerfile is run as it stands there, the build's folders being folders below `--folder`; pip fetches
the locked packages. Prints megabytes (a million bytes) by part. `strip` (binutils) has to be there.
"""

import argparse
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.deploy.dockerfile import Dockerfile
from tests.deploy.document import ROOT

FILE = ROOT / "deploy" / "gateway.Dockerfile"
ENVIRONMENT = "/opt/passerelle"
LIMIT_MB = 250.0
# The slim base, which no engine unpacks here: the files of Debian's packages (86.1), of Python as the base builds it (28.3), of
# pip, setuptools and wheel (10.9), and the bytecode that the last stage adds. docs/deployment.md says how they were measured.
BASE_MB = 86.1 + 28.3 + 10.9 + 2.0


class Build:
    """The build stage of a container file, in a folder that takes the place of the root."""

    def __init__(self, root: Path, python: Path) -> None:
        """`python` is the base's interpreter."""
        self._root = root
        self._folder = root / "build"
        self._variables = {"PATH": f"{root}/bin:/usr/bin:/bin", "HOME": str(root / "home")}
        self._variables["PIP_QUIET"] = "1"
        # Where packages come from is the machine's affair.
        self._variables |= {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_"))}
        (root / "bin").mkdir(parents=True)
        subprocess.run([python, "-m", "venv", "--without-pip", root / "base"], check=True)
        (root / "bin" / "python").symlink_to(root / "base" / "bin" / "python")

    @property
    def environment(self) -> Path:
        """The environment that the last stage copies."""
        return self._root / ENVIRONMENT.strip("/")

    def add_pip(self) -> None:
        """The base's pip, which takes seconds to unpack."""
        subprocess.run([self._root / "base" / "bin" / "python", "-m", "ensurepip"], check=True, stdout=sys.stderr)

    def run(self, file: Dockerfile) -> None:
        """Every instruction up to the last stage; raises CalledProcessError for a step that fails."""
        for name, rest in file.instructions[: -len(file.last_stage().instructions)]:
            if name == "ENV":
                self._variables |= dict(word.split("=", 1) for word in shlex.split(rest))
            elif name == "COPY":
                self._copy(*shlex.split(rest))
            elif name == "RUN":
                words = ["bash", "-euo", "pipefail", "-c", rest.replace(ENVIRONMENT, str(self.environment))]
                subprocess.run(words, cwd=self._folder, env=self._variables, check=True, stdout=sys.stderr)
            else:
                self._folder.mkdir(exist_ok=True)

    def _copy(self, *words: str) -> None:
        *sources, target = words
        to = self.environment if target.startswith(ENVIRONMENT) else self._folder / target
        for source in sources:
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, to, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                to.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / source, to)


def weight_mb(folder: Path) -> float:
    """The size of a folder's files, as an image counts them: each once, without the blocks of a file system."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink()) / 1e6


def parts(environment: Path) -> Iterator[tuple[str, float]]:
    """The packages of an environment by their weight, the heaviest first."""
    (packages,) = environment.glob("lib/python*/site-packages")
    weights = {path.name: weight_mb(path) for path in packages.iterdir() if path.is_dir()}
    yield from sorted(weights.items(), key=lambda part: -part[1])


def main() -> int:
    """1 when the image would weigh more than it may."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--python", type=Path, default=Path(sys.executable), help="an interpreter of the base's version"
    )
    parser.add_argument("--folder", type=Path, required=True, help="where to build; must not exist")
    options = parser.parse_args()
    build = Build(options.folder.absolute(), options.python)
    build.add_pip()
    build.run(Dockerfile.read(FILE))
    whole = weight_mb(build.environment)
    for name, weight in list(parts(build.environment))[:12]:
        sys.stdout.write(f"{weight:8.1f}  {name}\n")
    sys.stdout.write(f"{whole:8.1f}  the environment\n{BASE_MB:8.1f}  the base\n{whole + BASE_MB:8.1f}  together\n")
    return 1 if whole + BASE_MB > LIMIT_MB else 0


if __name__ == "__main__":
    sys.exit(main())
