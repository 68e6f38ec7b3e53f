"""Forbidden terms: words that may neither come in nor go out.

Compared in one form: compatibility-decomposed (NFKD, Unicode Standard Annex 15), case-folded, invisible format characters
dropped, white space as one kind. A term matches whole words only, so "arme" is not found in "alarme" nor in "armé".
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache

_MARKS = "\u0300-\u036f"


class Terms:
    """A compiled list. Empty lists match nothing."""

    def __init__(self, terms: Iterable[str]) -> None:
        forms = sorted({fold(term).strip() for term in terms} - {""}, key=len, reverse=True)
        self._prefixes = frozenset(form[:size] for form in forms for size in range(1, len(form) + 1))
        self._longest = len(forms[0]) if forms else 0
        alternatives = "|".join(map(re.escape, forms))
        self._pattern = re.compile(rf"(?<![\w{_MARKS}])(?:{alternatives})(?![\w{_MARKS}])") if forms else None

    def __bool__(self) -> bool:
        return self._pattern is not None

    def found(self, text: str) -> bool:
        """Whether a forbidden term stands in the text."""
        return self._pattern is not None and self._pattern.search(fold(text)) is not None

    def hold(self, text: str) -> int:
        """The index from which `text` may be the beginning of a term, so must wait for what follows; `len(text)` if none."""
        folded: list[str] = []
        starts: list[tuple[int, int]] = []
        under_way = False
        for index, character in enumerate(text):
            for form in _fold_character(character):
                if not under_way:
                    starts.append((index, len(folded)))
                under_way = in_word(form)
                folded.append(form)
        form = "".join(folded)
        for index, start in starts:
            if len(form) - start <= self._longest and form[start:] in self._prefixes:
                return index
        return len(text)


def fold(text: str) -> str:
    """The form in which texts and terms are compared."""
    if text.isascii():
        return re.sub(r"\s", " ", text).lower()
    folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    kept = "".join(character for character in folded if unicodedata.category(character) != "Cf")
    return re.sub(r"\s", " ", kept)


@lru_cache(maxsize=4096)
def _fold_character(character: str) -> str:
    return fold(character)


def in_word(character: str) -> bool:
    """Whether the character continues a word: a letter, a digit, or a mark on one."""
    return character.isalnum() or character == "_" or bool(unicodedata.combining(character))
