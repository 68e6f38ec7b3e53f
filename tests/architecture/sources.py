"""The program's modules as syntax trees, and what they import."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("auth", "gateway", "serving")
OURS = (*PACKAGES, "loadtests", "evaluation", "tests")


@dataclass(frozen=True)
class Module:
    """A module by its dotted name. Rules are functions from a Module to what is wrong, so a string can be tried too."""

    name: str
    source: str

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.source)

    @property
    def package(self) -> str:
        return self.name.partition(".")[0]

    def imports(self) -> set[str]:
        """Dotted names, wherever the import stands; a name imported from a package counts as a module of it."""
        found: set[str] = set()
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                above = self.name.split(".")[: -node.level] if node.level else []
                base = ".".join([*above, *([node.module] if node.module else [])])
                found |= {base} if base not in OURS else {f"{base}.{alias.name}" for alias in node.names}
        return found


def modules(*packages: str) -> Iterator[Module]:
    """The modules of folders below the root, those that exist."""
    for package in packages:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            yield Module(name, path.read_text(encoding="utf-8"))


def top(name: str) -> str:
    return name.partition(".")[0]
