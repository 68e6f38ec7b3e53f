"""The grams of a text, and a table of what they weigh in several linear models at once.

Grams are pieces of a word, and each word with those before it. All models read the same ones, so their weights stand together:
those of a gram are one whole number with `_BITS` bits for each model. Such numbers can be added up like any others, and the
sum holds the sum for each model, as long as none needs more bits: see `LONGEST_ROW`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, repeat
from typing import Final, NamedTuple

WEIGHT: Final = 127  # the largest of a gram in one model, whatever its sign
MAX_WORD: Final = 48  # characters of a word that are read
LONGEST_ROW: Final = 40  # words; 195 grams each, all of the largest weight, need 20 bits and a sign
_BITS: Final = 21
_HALF: Final = 1 << (_BITS - 1)
_MODELS: Final = 3  # in 63 bits, where Python adds fastest
_REMEMBERED: Final = 20_000  # words
_SHORTEST, _LONGEST = 2, 5  # characters of a piece of a word


def grams(words: Sequence[str]) -> Iterator[str]:
    """The grams of a text: pieces of each word, and each word with those before it; the end is a word too."""
    trail = ["^"]
    for word in words:
        yield from _pieces(word[:MAX_WORD])
        yield from _sequences(trail, word[:MAX_WORD])
        trail = [*trail[-2:], word[:MAX_WORD]]
    yield from _sequences(trail, "$")


def _pieces(word: str) -> Iterator[str]:
    padded = f" {word} "
    size = len(padded)
    for length in range(_SHORTEST, _LONGEST + 1):
        for start in range(size - length + 1):
            yield padded[start : start + length]
    if size > _LONGEST:
        yield padded


# How many pieces a word of so many characters has.
_PIECES: Final = [len([*_pieces("x" * size)]) for size in range(MAX_WORD + 1)]


def _sequences(trail: list[str], word: str) -> list[str]:
    """Two words in a row, three, and two with one or two between them."""
    found = [f"2{trail[-1]} {word}"]
    if len(trail) > 1:
        found += [f"3{trail[-2]} {trail[-1]} {word}", f"s{trail[-2]} {word}"]
    if len(trail) > 2:
        found.append(f"s{trail[-3]} {word}")
    return found


class Sum(NamedTuple):
    """What a row of words weighs: `total` in all models, to be read by `Table.of`, and of how many grams."""

    total: int
    grams: int


class Table:
    """The weights of several models. Holds nothing of the texts but words, and of them a bounded number.

    A gram is not kept as a text of its own: it lies by its end in a dictionary that lies by its beginning. The same few texts are
    keys of many dictionaries then, which takes half the memory, and a gram need not be spelled to be found.
    """

    def __init__(self) -> None:
        self._models = 0
        self._next: _Pairs = {}  # a word and the one after it
        self._later: _Pairs = {}  # a word and one after that
        self._words = _Words(self._next, self._later)
        self._threes: dict[str, int] = {}  # three words

    def add(self, weights: Iterable[tuple[str, int]]) -> int:
        """Add the weights of a model, whole numbers up to `WEIGHT`, before anything is read; its place, for `of`."""
        if self._models == _MODELS:
            raise ValueError(f"a table has room for {_MODELS} models")
        place, self._models = self._models, self._models + 1
        shift, same = place * _BITS, dict[int, int]()  # equal numbers are kept once
        for gram, weight in weights:
            held, key = self._held(gram)
            number = weight << shift
            if key in held:
                number += held[key]
            held[key] = same.setdefault(number, number)
        return place

    def _held(self, gram: str) -> tuple[dict[str, int], str]:
        """Where the weights of a gram lie, and by which key: never the text given, for one that stays holds much memory back."""
        if gram.find(" ", 1, -1) < 0:
            return self._words.held(gram)
        if gram[0] == "3":
            return self._threes, gram[1:]
        first, _, last = gram[1:].partition(" ")
        return _of(self._next if gram[0] == "2" else self._later, first), sys.intern(last)

    def sum(self, words: Sequence[str]) -> Sum:
        """The sum over the grams of up to `LONGEST_ROW` words, of which there is one at least."""
        row, totals, pieces, after, later = zip(*map(self._words.__getitem__, ("^", *words, "$")), strict=True)
        sequences = chain(
            map(_get, after, row[1:]),
            map(_get, later, row[2:]),
            map(_get, later, row[3:]),
            map(self._threes.get, map(" ".join, zip(row, row[1:], row[2:], strict=False))),
        )
        total = sum(totals[1:-1]) + sum(filter(None, sequences))
        return Sum(total, sum(pieces[1:-1]) + 4 * len(words))

    def of(self, place: int, total: int) -> int:
        """The part of a sum that is that of one model."""
        return ((total + _HALVES) >> (place * _BITS) & (2 * _HALF - 1)) - _HALF


_Pairs = dict[str, dict[str, int]]
_NOTHING: Final[dict[str, int]] = {}
_get: Final = dict[str, int].get
# Added to a sum, this makes the parts of all models positive, so that none borrows from another.
_HALVES: Final = sum(_HALF << (place * _BITS) for place in range(_MODELS))


def _of(pairs: _Pairs, first: str) -> dict[str, int]:
    if first not in pairs:
        pairs[sys.intern(first)] = {}
    return pairs[first]


class _Word(NamedTuple):
    """All there is of a word in a table, in one place, so that it is looked up once.

    The text is the very one that is a key of the pairs, `pieces` how many it has and `total` what they weigh.
    """

    text: str
    total: int
    pieces: int
    after: dict[str, int]
    later: dict[str, int]


class _Words(dict[str, _Word]):
    """Words; one that is asked for is reckoned, and remembered."""

    def __init__(self, after: _Pairs, later: _Pairs) -> None:
        super().__init__()
        self._after, self._later = after, later
        self._short: dict[str, int] = {}  # pieces of two or three characters
        self._longer: _Pairs = {}  # pieces of four or five, by the first two
        self._whole: dict[str, int] = {}

    def held(self, piece: str) -> tuple[dict[str, int], str]:
        """Where the weights of a piece lie, and by which key."""
        if len(piece) > _LONGEST:
            return self._whole, sys.intern(piece[1:-1])
        if len(piece) > 3:
            return _of(self._longer, piece[:2]), sys.intern(piece[2:])
        return self._short, sys.intern(piece[:1] + piece[1:])

    def __missing__(self, word: str) -> _Word:
        if len(word) > MAX_WORD:
            return self[word[:MAX_WORD]]
        if len(self) >= _REMEMBERED:
            self.clear()
        padded = f" {word} "
        twos = [padded[start : start + 2] for start in range(len(padded) - 1)]
        threes = [padded[start : start + 3] for start in range(len(padded) - 2)]
        longer = [*map(self._longer.get, twos, repeat(_NOTHING))]
        pieces = chain(
            map(self._short.get, twos),
            map(self._short.get, threes),
            map(_get, longer, twos[2:]),
            map(_get, longer, threes[2:]),
        )
        # What is longer than five characters with the blanks around it counts as a whole too.
        total = sum(filter(None, pieces)) + (self._whole.get(word, 0) if len(padded) > _LONGEST else 0)
        text = sys.intern(word)
        after, later = self._after.get(text, _NOTHING), self._later.get(text, _NOTHING)
        found = self[text] = _Word(text, total, _PIECES[len(text)], after, later)
        return found
