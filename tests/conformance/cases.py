"""A file of cases, one JSON object a line, and who may share an installation with whom."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path


class BadCases(Exception):
    """The file holds no cases; the message says where."""


@dataclass(frozen=True)
class Case:
    """One line of the file. `needs` is what the runner must have been told of."""

    id: str
    needs: frozenset[str]
    line: str

    @property
    def login_limited(self) -> bool:
        return "login_limited" in self.needs

    @property
    def alone(self) -> bool:
        """Whether it uses up a limit or stops a server, so that the next case would find another installation than it expects."""
        breaks = self.login_limited or any(need.startswith("hook:") for need in self.needs)
        return breaks or "limited_user" in self.needs or '"limited"' in self.line


def read(path: Path, only: Iterable[str] = ()) -> list[Case]:
    """The cases of a file, or those of the given ids; raises BadCases."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        cases = [_case(line) for line in lines if line.strip()]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadCases(f"{path} holds no cases: {type(error).__name__} {error}") from error
    wanted = set(only) or {case.id for case in cases}
    if missing := wanted - {case.id for case in cases}:
        raise BadCases(f"{path} has no case {', '.join(sorted(missing))}")
    return [case for case in cases if case.id in wanted]


def groups(cases: list[Case]) -> Iterator[list[Case]]:
    """Those that may share an installation first, then one by one those that may not."""
    if together := [case for case in cases if not case.alone]:
        yield together
    yield from ([case] for case in cases if case.alone)


def _case(line: str) -> Case:
    fields = json.loads(line)
    return Case(str(fields["id"]), frozenset(fields.get("needs") or ()), line)
