"""Which kind of abuse a text is, once it is taken for abuse: a table of weights for the grams that `classifier` reads.

Made by `evaluation/guards/kinds.py`. The kinds are named as OpenAI's API reference names its categories ("Moderations").
"""

from __future__ import annotations

import math
from pathlib import Path

import msgspec

from gateway.guardrails.classifier import read
from gateway.guardrails.disguise import tokens
from gateway.guardrails.grams import grams

_LONGEST = 400  # tokens that are read: the kind of a long text is told by its beginning


class Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the file holds: for each gram a whole number of `unit` for each of `kinds`."""

    format: int
    trained: str
    data_sha256: str
    kinds: list[str]
    bias: list[float]
    unit: float
    weights: dict[str, list[int]]


class Kinds:
    """The table in memory."""

    def __init__(self, table: Table) -> None:
        self._table = table

    @classmethod
    def load(cls, path: Path) -> Kinds:
        """Raises BadModel where the file is no such table."""
        return cls(read(path, Table))

    def of(self, text: str) -> dict[str, float]:
        """The probability of each kind; together they are 1."""
        table = self._table
        found = [*grams(tokens(text)[:_LONGEST])]
        sums = [0] * len(table.kinds)
        for gram in found:
            for place, weight in enumerate(table.weights.get(gram, ())):
                sums[place] += weight
        scale = table.unit / math.sqrt(max(1, len(found)))
        logits = [bias + scale * total for bias, total in zip(table.bias, sums, strict=True)]
        top = max(logits)
        powers = [math.exp(logit - top) for logit in logits]
        return {kind: power / sum(powers) for kind, power in zip(table.kinds, powers, strict=True)}
