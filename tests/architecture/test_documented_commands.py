"""Every `passerelle …` command that the documents show is one that the program understands."""

import contextlib
import io
import re
import shlex
from pathlib import Path

import pytest

from gateway.cli import parser

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# What stands for a number in the documents, and for one of several words.
NUMBERS = re.compile(r"\b(N|DAYS|PORT)\b")


def commands(text: str) -> list[str]:
    """The command lines in blocks of code, and in spans of code that hold more than a command's name."""
    blocks = re.findall(r"^```[a-z]*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    spans = re.findall(
        r"(?<!`)`(passerelle [^`\n]* [^`\n]*)`(?!`)", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    )
    found = [match[1] for line in lines if (match := re.match(r"(?:\$ |\S*/)?(passerelle [a-z-].*)", line.strip()))]
    found = [re.split(r" {3,}", line)[0] for line in found]  # what follows says what it does
    return [line for line in found + spans if not re.search(r"[…|]|\.\.\.| / ", line)]


def refused(line: str) -> str:
    """What the parser says against a command line; empty when it takes it."""
    words = shlex.split(NUMBERS.sub("1", line), comments=True)[1:]
    words = words[: next((place for place, word in enumerate(words) if word in {">", "<", "&&", ";", "&"}), len(words))]
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            parser().parse_args(words)
    except SystemExit as ended:
        # In a sentence a command may be named without its arguments.
        return said.getvalue() if ended.code and "are required" not in said.getvalue() else ""
    return ""


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_the_commands_of_a_document_are_understood(document: Path) -> None:
    problems = {line: refused(line) for line in commands(document.read_text(encoding="utf-8"))}
    assert {line: said for line, said in problems.items() if said} == {}


def test_a_command_that_is_none_is_found() -> None:
    text = "```\n$ passerelle audit --limit 50   # rows\npasserelle usage --by day > x.csv\n```\nor `passerelle keys shut ID`."
    found = commands(text)
    assert [bool(refused(line)) for line in found] == [True, False, True]
