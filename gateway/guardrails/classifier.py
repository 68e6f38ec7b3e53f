"""How likely a text is to be an attack on the instructions, or abuse: a linear model over pieces of words and pairs of words.

The model is a table, made by `evaluation/guards/train.py`: a weight for each gram. A text's score is the sum of the weights of
its grams over the square root of their number, through a logistic curve. A long text is read sentence by sentence, and the
worst counts, so that an attack at the end of a harmless page weighs as much as one alone.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Generic, NamedTuple, Protocol, TypeVar

import msgspec

from gateway.guardrails.disguise import decoded, tokens
from gateway.guardrails.grams import LONGEST_ROW, WEIGHT, Table
from gateway.guardrails.second import Second, SecondLook, installed, probability

FORMAT = 1
MAX_CHARACTERS = 16_000  # of a longer text the two ends are read: a second of reading would stop every other request
_FEW, _TIMES = 8, 3  # of more words, each said so many times in the mean, every one is read once
_SHORT, _FEWEST = LONGEST_ROW, 4  # words: up to the one a text is read as a whole; a sentence under the other goes on
_END = re.compile(r"(?<=[.!?…;:])\s+|\n+")
# In a JSON object of whole numbers. Within a text there is a backslash before each quotation mark.
_BETWEEN_ITEMS = re.compile(rb'(?<!\\)"\s*:\s*-?[0-9]+\s*(?P<comma>,)')
_AT_ONCE = 65_536  # bytes


class BadModel(Exception):
    """A model file that cannot be used; the message names it and says why."""


Weights = dict[str, Annotated[int, msgspec.Meta(ge=-WEIGHT, le=WEIGHT)]]
W = TypeVar("W", Weights, msgspec.Raw)


class Model(msgspec.Struct, Generic[W], frozen=True, forbid_unknown_fields=True):
    """What a model file holds. Weights are whole numbers of `unit`; `high` and `low` are the thresholds suggested.

    The weights are all there, or still as JSON: as a dictionary they take 20 MB, for as long as they are put into a table.
    """

    format: int
    name: str
    trained: str
    data_sha256: str
    high: float
    low: float
    bias: float
    unit: float
    weights: W
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


class Reading(NamedTuple):
    """What a table makes of a passage: the sum of its grams' weights, in all models, and how many those are; 0: no words."""

    passage: str
    total: int
    grams: int


class Look(NamedTuple):
    """What a model makes of a text: its logit, the passage that it comes from, and the probability that goes with it."""

    logit: float
    passage: str
    probability: float


class Classifier:
    """One model in memory. Holds nothing of the texts it reads."""

    def __init__(self, model: Model[Weights] | Model[msgspec.Raw], table: Table | None = None) -> None:
        """Its weights go to the `table`, which models that read the same texts share, and which no text has met yet."""
        self.table = table or Table()
        weights = model.weights
        self._place = self.table.add(_items(weights) if isinstance(weights, msgspec.Raw) else weights.items())
        self._bias, self._unit, self.first_high, self._low = model.bias, model.unit, model.high, model.low
        self._second = SecondLook(model.second) if model.second is not None and installed() else None

    @property
    def high(self) -> float:
        """The threshold suggested for `score`, with a second look or without; `first_high` is that without."""
        return self.first_high if self._second is None else self._second.high

    @property
    def low(self) -> float:
        """Where doubt begins."""
        return self._low if self._second is None else self._second.low

    @classmethod
    def load(cls, path: Path, table: Table | None = None) -> Classifier:
        """Reads a model file.

        Raises:
            BadModel: it cannot be read, or is no model of this format.
        """
        try:
            return cls(read(path, Model[msgspec.Raw]), table)
        except msgspec.DecodeError as error:
            raise BadModel(f"{path} is not a usable model: {error}") from error

    def score(self, text: str) -> float:
        """The probability (0 to 1) at the shares of the training data. Of a text over `MAX_CHARACTERS` the ends are read."""
        return self.settle(self.look(text))

    def look(self, text: str) -> Look:
        """The first look, about half a microsecond a character."""
        return self.look_at(readings(self.table, text))

    def look_at(self, read: Iterable[Reading]) -> Look:
        """The first look at what `table` has made of a text."""
        worst, passage = -math.inf, ""
        for text, total, count in read:
            if count:
                logit = self._bias + self._unit * self.table.of(self._place, total) / math.sqrt(count)
                if (logit, text) > (worst, passage):
                    worst, passage = logit, text
        return Look(worst, passage, probability(worst))

    def hesitates(self, look: Look) -> bool:
        """Whether `settle` would take a second look, which takes its time."""
        return self._second is not None and self._second.hesitates(look.probability)

    def settle(self, look: Look) -> float:
        """The probability after a second look, where one is needed."""
        if self._second is None or not self.hesitates(look):
            return look.probability
        return probability(self._second.logit(look.passage, look.logit))


def _items(weights: msgspec.Raw) -> Iterator[tuple[str, int]]:
    """The grams and weights of a JSON object, some at a time. Raises msgspec.DecodeError."""
    found = bytes(weights)
    if not found.startswith(b"{"):
        raise msgspec.ValidationError("Expected `object` - at `$.weights`")
    start = 1
    while end := _BETWEEN_ITEMS.search(found, start + _AT_ONCE):
        yield from msgspec.json.decode(b"{%b}" % found[start : end.start("comma")], type=Weights).items()
        start = end.end()
    yield from msgspec.json.decode(b"{" + found[start:], type=Weights).items()


def readings(table: Table, text: str) -> list[Reading]:
    """What the table makes of each passage of a text, for all its models."""
    return [
        Reading(passage, *(table.sum(words) if _says_something(words) else (0, 0))) for passage, words in passages(text)
    ]


def _says_something(words: Iterable[str]) -> bool:
    """Whether there are two letters at least; fences, figures, smileys say nothing."""
    letters = map(str.isalpha, "".join(words))
    return any(letters) and any(letters)


Passage = tuple[str, list[str]]


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
