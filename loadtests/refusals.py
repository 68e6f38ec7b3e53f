"""Prompts that must not reach a model, and what has to come instead of an answer."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loadtests.answer import Failed

OURS = Path(__file__).with_name("refused.toml")
_CODE = "400 content_policy_violation"


@dataclass(frozen=True)
class Prompt:
    """A text, and what its answer has to hold; None when no answer may come."""

    text: str
    answer: str | None = None

    def answered(self, text: str) -> None:
        """Raises Failed unless this answer is the help line's."""
        if self.answer is None:
            raise Failed("answered, not refused")
        if self.answer not in text:
            raise Failed("answered without the help line")

    def failed(self, failure: Failed) -> None:
        """Raises `failure` again unless it is the refusal that has to come."""
        if self.answer is not None or str(failure) != _CODE:
            raise failure


def prompts(file: Path) -> tuple[Prompt, ...]:
    """Read the file; raises SystemExit with one sentence when it is of no use."""
    try:
        found = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SystemExit(f"loadtests: {file} cannot be read as TOML: {error}") from None
    number = found.get("help_number", "3114")
    if not isinstance(number, str) or not number:
        raise SystemExit(f"loadtests: {file}: help_number is {number!r}, allowed is a text that the answer holds")
    refused = [Prompt(text) for text in _texts(file, found, "refused")]
    helped = [Prompt(text, number) for text in _texts(file, found, "help")]
    if not refused + helped:
        raise SystemExit(f"loadtests: {file} holds no prompt: give `refused` or `help` a list of texts")
    return (*refused, *helped)


def _texts(file: Path, found: dict[str, Any], key: str) -> list[str]:
    texts = found.get(key, [])
    if not isinstance(texts, list) or not all(isinstance(text, str) and text for text in texts):
        raise SystemExit(f"loadtests: {file}: {key} is {texts!r}, allowed is a list of texts")
    return texts
