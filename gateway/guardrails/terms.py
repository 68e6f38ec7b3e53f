"""Forbidden terms: words that may neither come in nor go out.

Compared in one form: compatibility-decomposed (NFKD, Unicode Standard Annex 15), case-folded, invisible characters dropped,
white space as one space. A term matches whole words only, so "arme" is not found in "alarme" nor in "armé".
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from functools import lru_cache

_MARKS = "\u0300-\u036f"
_TRAILING_MARKS = re.compile(rf"[{_MARKS}]+\Z")
# Invisible without being format characters: the grapheme joiner, fillers, variation selectors (Default_Ignorable_Code_Point).
_INVISIBLE = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]")


class Terms:
    """A compiled list. Empty lists match nothing."""

    def __init__(self, terms: Iterable[str]) -> None:
        forms = sorted({fold(term).strip() for term in terms} - {""}, key=len, reverse=True)
        self._prefixes = frozenset(form[:size] for form in forms for size in range(1, len(form) + 1))
        self._longest = len(forms[0]) if forms else 0
        alternatives = "|".join(map(re.escape, forms))
        # An underscore is mark-up (_word_), not part of a word.
        before, after = rf"(?<![^\W_])(?<![{_MARKS}])", rf"(?![^\W_]|[{_MARKS}])"
        self._pattern = re.compile(f"{before}(?:{alternatives}){after}") if forms else None

    def __bool__(self) -> bool:
        return self._pattern is not None

    def found(self, text: str) -> bool:
        """Whether a forbidden term stands in the text."""
        return self._pattern is not None and self._pattern.search(fold(text)) is not None

    def hold(self, text: str) -> int:
        """The index from which `text` may be the beginning of a term, so must wait for what follows; `len(text)` if none."""
        form = ""
        starts: list[tuple[int, int]] = []
        for index, cluster in _clusters(text):
            for character in _fold_cluster(cluster):
                if not (form and in_word(form[-1])):
                    starts.append((index, len(form)))
                form += character
        form = _TRAILING_MARKS.sub("", form)  # more marks may follow, and their order is not that of arrival
        for index, start in starts:
            if len(form) - start <= self._longest and form[start:] in self._prefixes:
                return index
        return len(text)


def fold(text: str) -> str:
    """The form in which texts and terms are compared."""
    if text.isascii():
        return re.sub(r"\s+", " ", text).lower()
    visible = "".join(character for character in text if not _invisible(character))
    folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", visible).casefold())
    return re.sub(r"\s+", " ", folded)


def in_word(character: str) -> bool:
    """Whether the character continues a word: a letter, a digit, or a mark on one."""
    return character.isalnum() or "\u0300" <= character <= "\u036f"


@lru_cache(maxsize=4096)
def _fold_cluster(cluster: str) -> str:
    return fold(cluster)


def _clusters(text: str) -> Iterator[tuple[int, str]]:
    """The pieces that fold on their own, with their indexes: a character with its marks, or a run of white space."""
    start, space = 0, False
    for index, character in enumerate(text):
        if _invisible(character):
            continue
        if not (unicodedata.combining(character) or (space and character.isspace())) and index > start:
            yield start, text[start:index]
            start = index
        space = character.isspace()
    if start < len(text):
        yield start, text[start:]


def _invisible(character: str) -> bool:
    return unicodedata.category(character) == "Cf" or _INVISIBLE.match(character) is not None
