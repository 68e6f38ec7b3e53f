"""How likely a text is to be an attack on the instructions, or abuse: a linear model over pieces of words and pairs of words.

The model is a table, made by `evaluation/guards/train.py`: a weight for each gram. A text's score is the sum of the weights of
its grams over the square root of their number, through a logistic curve. A long text is read sentence by sentence, and the
worst counts, so that an attack at the end of a harmless page weighs as much as one alone.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

import msgspec

from gateway.guardrails.disguise import decoded, tokens
from gateway.guardrails.second import Second, SecondLook, installed, probability

FORMAT = 1
MAX_CHARACTERS = 16_000  # of a longer text the two ends are read: a second of reading would stop every other request
_MAX_WORD = 48
_FEWEST_LETTERS = 2
_FEW, _TIMES = 8, 3  # of more words, each said so many times in the mean, every one is read once
_REMEMBERED = 20_000  # words
_SHORT, _FEWEST = 40, 4  # words: up to the one a text is read as a whole; a sentence under the other goes with the next
_END = re.compile(r"(?<=[.!?…;:])\s+|\n+")
_SHORTEST, _LONGEST = 2, 5  # characters of a piece of a word


class BadModel(Exception):
    """A model file that cannot be used; the message names it and says why."""


class Model(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a model file holds. Weights are whole numbers of `unit`; `high` and `low` are the thresholds suggested."""

    format: int
    name: str
    trained: str
    data_sha256: str
    high: float
    low: float
    bias: float
    unit: float
    weights: dict[str, int]
    second: Second | None = None


class Dated(Protocol):
    """A file that says which format it has."""

    @property
    def format(self) -> int: ...  # noqa: D102  # the class says it


Shape = TypeVar("Shape", bound=Dated)


def read(path: Path, shape: type[Shape]) -> Shape:
    """A model's file. Raises BadModel where it cannot be read, or has no such shape or another format."""
    try:
        found = msgspec.json.decode(path.read_bytes(), type=shape)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadModel(f"{path} is not a usable model: {error}") from error
    if found.format != FORMAT:
        raise BadModel(f"{path} has format {found.format}; this version reads format {FORMAT}")
    return found


Passage = tuple[str, list[str]]


class Look(NamedTuple):
    """What the table makes of a text: its logit, and the passage that it comes from."""

    logit: float
    passage: str


class Classifier:
    """One model in memory. Holds nothing of the texts it reads."""

    def __init__(self, model: Model) -> None:
        self.model = model
        # Words, with the sum of their pieces' weights and how many pieces those are.
        self._known: dict[str, tuple[int, int]] = {}
        self._second = SecondLook(model.second) if model.second is not None and installed() else None

    @property
    def high(self) -> float:
        """The threshold suggested for `score`, with a second look or without."""
        return self.model.high if self._second is None else self._second.second.high

    @property
    def low(self) -> float:
        """Where doubt begins."""
        return self.model.low if self._second is None else self._second.second.low

    @classmethod
    def load(cls, path: Path) -> Classifier:
        """Reads a model file.

        Raises:
            BadModel: it cannot be read, or is no model of this format.
        """
        return cls(read(path, Model))

    def score(self, text: str) -> float:
        """The probability (0 to 1) at the shares of the training data. Of a text over `MAX_CHARACTERS` the ends are read."""
        return self.settle(self.look(text))

    def look(self, text: str) -> Look:
        """The first look, about half a microsecond a character."""
        return self.look_at(passages(text))

    def look_at(self, read: Sequence[Passage]) -> Look:
        """The first look at the passages of a text."""
        return max([Look(self._logit(words), passage) for passage, words in read], default=Look(-math.inf, ""))

    def hesitates(self, look: Look) -> bool:
        """Whether `settle` would take a second look, which takes its time."""
        return self._second is not None and self._second.hesitates(probability(look.logit))

    def settle(self, look: Look) -> float:
        """The probability after a second look, where one is needed."""
        if self._second is None or not self.hesitates(look):
            return probability(look.logit)
        return probability(self._second.logit(look.passage, look.logit))

    def _logit(self, words: Sequence[str]) -> float:
        if sum(map(str.isalpha, "".join(words))) < _FEWEST_LETTERS:  # fences, figures, smileys say nothing
            return -math.inf
        weight, known = self.model.weights.get, self._known
        total, count, trail = 0, 0, ["^"]
        for word in words:
            if (pieces := known.get(word)) is None:
                pieces = self._remember(word)
            found = _sequences(trail, word[:_MAX_WORD])
            total += pieces[0] + sum([weight(gram, 0) for gram in found])
            count += pieces[1] + len(found)
            trail = [*trail[-2:], word[:_MAX_WORD]]
        found = _sequences(trail, "$")
        total, count = total + sum([weight(gram, 0) for gram in found]), count + len(found)
        return self.model.bias + self.model.unit * total / math.sqrt(count)

    def _remember(self, word: str) -> tuple[int, int]:
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        found = [*_pieces(word)]
        pieces = self._known[word] = sum([self.model.weights.get(gram, 0) for gram in found]), len(found)
        return pieces


def passages(text: str) -> list[Passage]:
    """What is read of a text, and its words, for every classifier the same."""
    if len(text) > MAX_CHARACTERS:
        text = text[: MAX_CHARACTERS // 2] + "\n" + text[-MAX_CHARACTERS // 2 :]
    words = tokens(text)
    found = [(text, words)] if len(words) <= _SHORT else _passages(text)
    if hidden := decoded(text):
        found += _passages(hidden)
    return [_condensed(passage, read) for passage, read in found]


def _condensed(passage: str, words: list[str]) -> Passage:
    """Words said over and over are said once: a weight that is nothing would grow with them."""
    distinct = dict.fromkeys(words)
    if len(words) <= _FEW or len(distinct) * _TIMES > len(words):
        return passage, words
    return " ".join(distinct), [*distinct]


def _passages(text: str) -> list[tuple[str, list[str]]]:
    """Each sentence and its words; a long one in pieces."""
    passages: list[tuple[str, list[str]]] = []
    words: list[str] = []
    held = ""
    for sentence in _END.split(text):
        words += tokens(sentence)
        held = f"{held} {sentence}" if held else sentence
        if len(words) >= _FEWEST:
            if len(words) <= _SHORT:
                passages.append((held, words))
            else:
                pieces = [words[start : start + _SHORT] for start in range(0, len(words), _SHORT)]
                passages += [(" ".join(piece), piece) for piece in pieces]
            words, held = [], ""
    return [*passages, (held, words)] if words else passages


def grams(words: Sequence[str]) -> Iterator[str]:
    """The grams of a text: pieces of each word, and each word with those before it; the end is a word too."""
    trail = ["^"]
    for word in words:
        yield from _pieces(word)
        yield from _sequences(trail, word[:_MAX_WORD])
        trail = [*trail[-2:], word[:_MAX_WORD]]
    yield from _sequences(trail, "$")


def _pieces(word: str) -> Iterator[str]:
    padded = f" {word[:_MAX_WORD]} "
    size = len(padded)
    for length in range(_SHORTEST, _LONGEST + 1):
        for start in range(size - length + 1):
            yield padded[start : start + length]
    if size > _LONGEST:
        yield padded


def _sequences(trail: list[str], word: str) -> list[str]:
    """Two words in a row, three, and two with one or two between them."""
    found = [f"2{trail[-1]} {word}"]
    if len(trail) > 1:
        found += [f"3{trail[-2]} {trail[-1]} {word}", f"s{trail[-2]} {word}"]
    if len(trail) > 2:
        found.append(f"s{trail[-3]} {word}")
    return found
