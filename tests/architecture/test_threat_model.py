"""docs/threat-model.md has a section for every risk, and every row of it names tests that exist."""

import ast
import re
from functools import cache

import pytest

from tests.architecture.sources import ROOT

RISKS = {
    "API1": "Broken Object Level Authorization",
    "API2": "Broken Authentication",
    "API3": "Broken Object Property Level Authorization",
    "API4": "Unrestricted Resource Consumption",
    "API5": "Broken Function Level Authorization",
    "API6": "Unrestricted Access to Sensitive Business Flows",
    "API7": "Server Side Request Forgery",
    "API8": "Security Misconfiguration",
    "API9": "Improper Inventory Management",
    "API10": "Unsafe Consumption of APIs",
}
COLUMNS = ["threat as it would look here", "what stands against it", "test", "what is left"]
NODE = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")
FILE = re.compile(r"`([\w.-]+(?:/[\w.-]+)+|[\w-]+\.(?:yml|toml))`")


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.removeprefix("|").removesuffix("|").split("|")]


def sections(text: str) -> dict[str, list[list[str]]]:
    """The rows of each section, its head first and without the line below it."""
    found: dict[str, list[list[str]]] = {}
    for section in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        title, _, body = section.partition("\n")
        rows = [cells(line) for line in body.splitlines() if line.startswith("|") and not line.startswith("|--")]
        found[title.strip()] = rows
    return found


@cache
def functions(path: str) -> frozenset[str]:
    """The tests of a file; none when there is no such file."""
    file = ROOT / path
    if not file.is_file():
        return frozenset()
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def problems(text: str) -> list[str]:
    """What is wrong with a threat model, in sentences."""
    found, known = [], sections(text)
    for number, name in RISKS.items():
        head, *rows = known.get(f"{number} {name}") or [[]]
        if head != COLUMNS:
            found.append(f"{number}: there is no section with a table of {', '.join(COLUMNS)}")
        elif not rows:
            found.append(f"{number}: has no row")
        found += [f"{number}: {problem}" for row in rows for problem in _of_row(row)]
    return found


def _of_row(row: list[str]) -> list[str]:
    if len(row) != len(COLUMNS) or not row[0] or not row[1]:
        return [f"{row[0]!r} does not have {len(COLUMNS)} cells"]
    named = NODE.findall(row[2])
    if not named or NODE.sub("", row[2]).strip(", "):
        return [f"{row[0]!r} names no test, or something else beside"]
    files = FILE.findall(row[1])
    return [
        *([] if files else [f"{row[0]!r} names no file"]),
        *(f"{file} does not exist" for file in files if not (ROOT / file).is_file()),
        *(f"{path}::{test} does not exist" for path, test in named if test not in functions(path)),
    ]


def test_every_risk_has_its_rows_and_every_row_its_tests() -> None:
    assert problems((ROOT / "docs" / "threat-model.md").read_text(encoding="utf-8")) == []


GOOD = "`tests/architecture/test_threat_model.py::test_a_broken_row_is_noticed`"
HEAD = f"| {' | '.join(COLUMNS)} |\n|---|---|---|---|\n"


def written(without: str = "", row: str = f"| a threat | `auth/keys.py` | {GOOD}, {GOOD} | |") -> str:
    """A model in which every risk has this row; one risk may be left out."""
    titles = [f"## {number} {name}\n\n" for number, name in RISKS.items() if number != without]
    return "# Model\n\n" + "\n".join(f"{title}{HEAD}{row}\n" for title in titles)


def test_a_model_with_all_of_it_has_no_problem() -> None:
    assert problems(written()) == []


@pytest.mark.parametrize("risk", RISKS)
def test_a_missing_risk_is_noticed(risk: str) -> None:
    (problem,) = problems(written(without=risk))
    assert problem.startswith(f"{risk}: there is no section")


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("", "has no row"),
        ("| a threat | `auth/keys.py` | | |", "names no test"),
        ("| a threat | `auth/keys.py` | by hand | |", "names no test"),
        ("| a threat | `auth/keys.py` | `tests/auth/test_keys.py` | |", "names no test"),
        (f"| a threat | `auth/keys.py` | {GOOD}, and by hand | |", "something else beside"),
        (
            f"| a threat | `auth/keys.py` | {GOOD}, `tests/auth/test_keys.py::test_of_nothing` | |",
            "of_nothing does not",
        ),
        ("| a threat | `auth/keys.py` | `tests/auth/test_gone.py::test_a` | |", "test_gone.py::test_a does not exist"),
        (f"| a threat | `auth/gone.py` | {GOOD} | |", "auth/gone.py does not exist"),
        (f"| a threat | care | {GOOD} | |", "names no file"),
        (f"| a threat | `auth/keys.py` | {GOOD} |", "does not have 4 cells"),
        (f"| a threat | | {GOOD} | |", "does not have 4 cells"),
    ],
)
def test_a_broken_row_is_noticed(row: str, problem: str) -> None:
    found = problems(written(row=row))
    assert [of.partition(":")[0] for of in found] == [*RISKS]
    assert all(problem in of for of in found)


def test_a_table_of_other_columns_is_noticed() -> None:
    (problem,) = problems(written().replace("what is left |", "tests |", 1))
    assert problem.startswith("API1: there is no section with a table of")
