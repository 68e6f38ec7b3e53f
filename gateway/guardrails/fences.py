"""Fenced code: where it begins and ends, and whether it is code at all.

Its lines are looked at one by one. Comments, strings and messages of a program may be in any language, within bounds; a fence
around prose hides nothing.
"""

from __future__ import annotations

import re

# A line that begins or ends fenced code (CommonMark 0.31, section 4.5); a list item or a block quotation may begin with it.
_FENCE = re.compile(r"[ \t>]*((?:[-*+]|\d{1,9}[.)])[ \t]+)?(`{3,}|~{3,})([^\n]*)\n?")
_LABEL = re.compile(r"[\s{.]*([\w+#-]*)")
PROGRAMS = frozenset(
    "ada asm assembly awk bash bat batch basic c c# c++ cc clojure cmake cobol conf console cpp crystal cs csharp css csv cuda "
    "cypher d dart diff docker dockerfile elixir elm env erlang f# fish fortran fsharp gherkin glsl go golang gradle graphql "
    "groovy haskell hcl hs html http ini java javascript jinja jl js json json5 jsonc jsonl jsx julia kotlin kt latex less lisp "
    "lua make makefile mathematica matlab mermaid nginx nix objc objective-c ocaml octave pascal patch perl php pl plantuml "
    "plsql powershell prisma prolog properties proto protobuf ps1 pseudocode py pycon python python3 r rb regex rs ruby rust "
    "sas sass scala scheme scss sh shell solidity sparql sql svelte svg swift tcl terraform tex toml ts tsx typescript v vb vba "
    "verilog vhdl vim vue wasm xml xquery yaml yml zig zsh".split()
)

# What prose has none of; brackets and stars it may have.
_CODE = re.compile(
    r"[{}=<>$\\_|&@~^]|\w\(|\w\[|\(\)|::|->|;[ \t]*$|^[ \t]*[\"']?[\w.-]+[\"']?:(?:[ \t]|$)|[\"'][ \t]*[,:]"
)
_COMMENT = re.compile(r"[ \t]*(?:#|//|/\*|\*|--|;|%|<!--|\"\"\"|''')")
_WORD = re.compile(r"[\[(*_«“\"'’-]*[^\W\d_][\w’'/-]*[.,;:!?…)\]*_»”\"'’]*")
_LEAST_WORDS, _MANY_WORDS = 4, 8
# A line of few words is a sentence by its capital or its full stop; without either it may be a command.
_SENTENCE = re.compile(r"\W*[A-ZÀ-Þ]|.*[.!?…:,][\s\"'”»)*_]*\Z", re.DOTALL)
# Characters of foreign prose: what an error message or a short example needs, and what the code around it adds to that.
_FREE = {True: 160.0, False: 80.0}
_FREE_BY_CODE = 3


class Fence:
    """One fence, line by line. `mark` opened it; `program` says whether it is labelled with a language of programs."""

    def __init__(self, mark: str, label: str) -> None:
        self._mark = mark
        self._program = label.lower() in PROGRAMS
        self._code = 0
        self._foreign = 0.0
        self._quoted = False  # between triple quotes, or in a comment of several lines
        self._weight = 1.0

    def closed_by(self, line: str) -> bool:
        """Whether the line ends the code."""
        match = _FENCE.fullmatch(line)
        return bool(match and not match[1] and match[2].startswith(self._mark) and not match[3].strip())

    def prose(self, line: str) -> str:
        """What of the line is to be judged as prose: all of it, or nothing."""
        comment = _COMMENT.match(line)
        quoted = self._quoted
        marks = line.count('"""') + line.count("'''") + line.count("/*") + line.count("*/")
        self._quoted ^= marks % 2 == 1
        words = line.split()
        like = sum(_WORD.fullmatch(word) is not None for word in words)
        sentence = len(words) >= _MANY_WORDS or (len(words) >= _LEAST_WORDS and _SENTENCE.match(line))
        if _CODE.search(line) or not sentence or like < 0.75 * len(words):
            self._code += 0 if comment or quoted else len(line.strip())
            return ""
        if self._program:
            self._weight = 0.25 if comment or quoted else 1.0
        else:
            self._weight = 0.5 if comment and not line.lstrip().startswith("*") else 1.0
        return line.strip(" \t#/*-;%>\n")

    def foreign(self, prose: str) -> bool:
        """Counts foreign prose, and says whether it is too much for the code around it."""
        self._foreign += self._weight * len(prose)
        return self._foreign > _FREE[self._program] + _FREE_BY_CODE * self._code

    @property
    def suspect(self) -> bool:
        """Whether it has more foreign prose than code so far, so that what follows decides."""
        return self._foreign > self._code


def opened(line: str) -> Fence | None:
    """The fence that the line opens; an opening line with a second back-tick is code within a sentence."""
    match = _FENCE.fullmatch(line)
    if match is None or (match[2][0] == "`" and "`" in match[3]):
        return None
    label = _LABEL.match(match[3])
    return Fence(match[2], label[1] if label else "")
