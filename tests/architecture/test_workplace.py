"""The tree speaks of the product alone: nothing of the machines, folders and people it was made with."""

import re
import subprocess

import pytest

from tests.architecture.sources import ROOT

# Written in pieces, or this file would be found.
WORDS = re.compile(
    r"(?<![\w.~$}-])/(?:wor" + r"k|ro" + r"ot|home/[a-z]+)/"  # somebody's folders
    r"|/op" + r"t/(?:wheels|pypi)"
    r"|(?<!\?= )\.\./sha" + r"red\b"  # but for a default of the Makefile, which the caller replaces
    r"|\bissu" + r"e #?\d"
    r"|\b(?:this|a|the) coding (?:age" + r"nt|session)\b"
    r"|--(?:extra-)?index-u" + r"rl[= ]\S*(?:file:|localhost|127\.0\.0\.1)"
    r"|\b(?:files\.pythonhos" + r"ted|py" + r"pi\.python)\.org",
    re.IGNORECASE,
)  # fmt: skip


def texts() -> dict[str, str]:
    """What is tracked, or would be; without Git every file but what tools made."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=True).stdout
    paths = [ROOT / name for name in listed.split("\0") if name]
    return {
        path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8", errors="replace")
        for path in paths
        if path.is_file()
    }


def words_in(text: str) -> list[str]:
    return [match.group() for match in WORDS.finditer(text)]


def test_no_file_speaks_of_the_workplace() -> None:
    assert {name: found for name, text in texts().items() if (found := words_in(text))} == {}


@pytest.mark.parametrize(
    "text",
    [
        "see /wor" + "k/main/x.py",
        'Path("/ro' + 'ot/.cache")',
        "--find-links /op" + "t/wheels",
        "RUNNER = ../sha" + "red/run.py",
        "as issu" + "e 12 says",
        "--index-u" + "rl file:///mirror",
        "https://files.pythonhos" + "ted.org/packages/x.whl",
    ],
)
def test_a_word_of_the_workplace_is_noticed(text: str) -> None:
    assert words_in(text)


@pytest.mark.parametrize(
    "text",
    [
        "COPY . /app/",
        "./wor" + "k/x",
        "an issue of taste",
        "~/wor" + "k/x",
        "/workers/2",
        "RUNNER ?= ../sha" + "red/x.py",
    ],
)
def test_what_a_product_may_say_is_let_be(text: str) -> None:
    assert words_in(text) == []
