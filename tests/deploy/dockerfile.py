"""Container files: what they say, and what is wrong with them."""

import json
import re
import shlex
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

_PINNED = re.compile(r"^[\w./-]+:[\w.-]*\d+\.\d+[\w.-]*(@sha256:[0-9a-f]{64})?$")


@dataclass(frozen=True)
class Dockerfile:
    """Instructions in order, as (name, rest), lines joined."""

    instructions: list[tuple[str, str]] = field(default_factory=list)

    @classmethod
    def read(cls, path: Path) -> "Dockerfile":
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.lstrip().startswith("#")]
        joined = "\n".join(lines).replace("\\\n", " ")
        words = [line.strip().partition(" ") for line in joined.splitlines() if line.strip()]
        return cls([(name.upper(), rest.strip()) for name, _, rest in words])

    def all(self, name: str) -> list[str]:
        return [rest for instruction, rest in self.instructions if instruction == name]

    def last_stage(self) -> "Dockerfile":
        start = max(place for place, (name, _) in enumerate(self.instructions) if name == "FROM")
        return Dockerfile(self.instructions[start:])

    def form(self, name: str) -> list[str]:
        """ENTRYPOINT or CMD of the last stage, in its exec form."""
        found = self.last_stage().all(name)
        value: Any = json.loads(found[-1]) if found else []
        return [str(word) for word in value]

    def environment(self) -> dict[str, str]:
        pairs = (pair.partition("=") for rest in self.last_stage().all("ENV") for pair in shlex.split(rest))
        return {name: value for name, _, value in pairs}


def pinned(image: str) -> bool:
    """Whether an image's name has a version with at least two numbers, or a digest; `latest` has none."""
    return bool(_PINNED.match(image))


def problems(path: Path, root: Path) -> list[str]:
    """Unpinned bases, sources that do not exist or never get into the build, root as the last user, unchecked downloads."""
    file = Dockerfile.read(path)
    found = [f"base {base} is not pinned" for base in map(_base, file.all("FROM")) if not pinned(base)]
    for source in (source for rest in file.all("COPY") if "--from=" not in rest for source in shlex.split(rest)[:-1]):
        if not (root / source).exists():
            found.append(f"COPY {source}: there is no such file")
        elif ignored(source, (root / ".dockerignore").read_text().splitlines()):
            found.append(f"COPY {source}: .dockerignore leaves it out")
    user = (file.last_stage().all("USER") or ["root"])[-1]
    if user.split(":")[0] in {"root", "0"}:
        found.append("runs as root")
    for rest in file.all("RUN"):
        found += [f"RUN {step}: unchecked download" for step in rest.split("&&") if _unchecked(step)]
    return found


def ignored(source: str, rules: list[str]) -> bool:
    """Whether the build leaves `source` out; the last rule that fits decides (Docker's reference, ".dockerignore")."""
    left_out = False
    for rule in (line.strip() for line in rules):
        if rule and not rule.startswith("#"):
            pattern = rule.removeprefix("!").removeprefix("**/").strip("/")
            if fnmatch(source, pattern) or source.startswith(f"{pattern}/"):
                left_out = not rule.startswith("!")
    return left_out


def _base(rest: str) -> str:
    return next(word for word in rest.split() if not word.startswith("--"))


def _unchecked(step: str) -> bool:
    words = step.split()
    if "install" not in words or "pip" not in words:
        return any(word in {"curl", "wget", "apt-get"} for word in words)
    local = any(word.startswith(("wheels/", "./")) or word == "." for word in words)
    return "--require-hashes" not in words and not local
