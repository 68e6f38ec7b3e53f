"""Trains what a model file holds for the second look: a network over E5's vectors, and how it decides with the first look."""

from __future__ import annotations

import hashlib
import sys
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier

from gateway.guardrails.second import Second, embedder

CACHE = Path(__file__).parent / ".vectors.npz"  # E5 takes minutes for all sentences
_UNITS, _DECAY, _EPOCHS, _NETWORKS = 64, 1.0, 60, 4  # networks that differ by chance alone, and whose mean counts
# Shares of the task's harmless sentences above the first look's score from which it hesitates, and up to which; of ordinary ones,
# which are what traffic is like, far fewer may cost a second look, or be flagged.
_SINCE, _UNTIL = 0.25, 0.002
_ORDINARY_SINCE, ORDINARY_HIGH = 0.005, 0.001
_SPARED, _TIMES = 0.006, 4  # share of the spared rows that may lie above the threshold; how often the network sees each


class Looks(NamedTuple):
    """What is known of each row out of fold: the first look's logit, the label, whether the row is the task's own, the fold.

    `spared` are harmless rows that must hardly ever be taken for abuse.
    """

    logits: Any
    labels: Any
    own: Any
    folds: Any
    spared: Any


def vectors(texts: list[str]) -> Any:
    """E5's vector of each text; those seen before come from a file."""
    known: dict[str, Any] = {}
    if CACHE.exists():
        with np.load(CACHE, allow_pickle=False) as kept:
            known = dict(zip(kept["names"].tolist(), kept["vectors"], strict=True))
    names = [hashlib.sha256(text.encode()).hexdigest() for text in texts]
    missing = [(name, text) for name, text in zip(names, texts, strict=True) if name not in known]
    for number, (name, text) in enumerate(missing, start=1):
        known[name] = embedder().vector(text).copy()
        if number % 250 == 0 or number == len(missing):
            sys.stderr.write(f"{number} of {len(missing)} sentences have a vector\n")
    if missing:
        np.savez(CACHE, names=np.array(list(known)), vectors=np.stack(list(known.values())))
    return np.stack([known[name] for name in names])


def train(seen: Any, looks: Looks, *, high: float, low: float) -> tuple[Second, Any]:
    """The second look, and the final probability of each row out of fold.

    `seen` are the vectors; `high` and `low` the shares of harmless sentences that may lie above the thresholds.
    """
    middle, spread = seen.mean(0), seen.std(0)
    scaled = (seen - middle) / spread
    logits = np.zeros(len(seen))
    for fold in np.unique(looks.folds):
        learned, asked = _repeated(looks.folds != fold, looks.spared), looks.folds == fold
        logits[asked] = _logits(_networks(scaled[learned], looks.labels[learned]), scaled[asked])
    both = np.stack([logits, looks.logits], 1)
    curve = LogisticRegression(C=1e6).fit(both[looks.own], looks.labels[looks.own])
    first, final = chance(looks.logits), chance(curve.decision_function(both))
    harmless = looks.own & (looks.labels == 0)
    since, until = (_above(first[harmless], share) for share in (_SINCE, _UNTIL))
    since = max(since, _above(first[~looks.own], _ORDINARY_SINCE))
    final = np.where((first >= since) & (first < until), final, first)
    limits = [_above(final[harmless], share) for share in (high, low)]
    limits[0] = max(limits[0], _above(final[~looks.own], ORDINARY_HIGH))
    if looks.spared.any():
        limits[0] = max(limits[0], _above(final[looks.spared], _SPARED))
    learned = _repeated(looks.labels >= 0, looks.spared)
    networks = _networks(scaled[learned], looks.labels[learned])
    hidden = np.concatenate([network.coefs_[0].T for network in networks]) / spread
    biases = np.concatenate([network.intercepts_[0] for network in networks]) - hidden @ middle
    out = np.concatenate([network.coefs_[1][:, 0] for network in networks]) / _NETWORKS
    second = Second(
        since=since,
        until=until,
        high=limits[0],
        low=limits[1],
        hidden=msgspec.Raw(msgspec.json.encode([[round(float(weight), 3) for weight in row] for row in hidden])),
        hidden_bias=[round(float(bias), 4) for bias in biases],
        out=[round(float(weight), 4) for weight in out],
        out_bias=round(float(np.mean([network.intercepts_[1][0] for network in networks])), 4),
        own=float(curve.coef_[0, 0]),
        first=float(curve.coef_[0, 1]),
        offset=float(curve.intercept_[0]),
    )
    return second, final


def _above(chances: Any, share: float) -> float:
    """The probability above which that share lies."""
    return round(float(np.quantile(chances, 1 - share)), 4)


def _repeated(chosen: Any, spared: Any) -> Any:
    """The indices of the chosen rows, those of spared ones several times."""
    return np.concatenate([np.flatnonzero(chosen), *[np.flatnonzero(chosen & spared)] * (_TIMES - 1)])


def _networks(seen: Any, labels: Any) -> list[MLPClassifier]:
    networks = [
        MLPClassifier((_UNITS,), alpha=_DECAY, max_iter=_EPOCHS, random_state=seed) for seed in range(_NETWORKS)
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the number of epochs is chosen, not waited for
        return [network.fit(seen, labels) for network in networks]


def _logits(networks: list[MLPClassifier], seen: Any) -> Any:
    chances = [np.clip(network.predict_proba(seen)[:, 1], 1e-9, 1 - 1e-9) for network in networks]
    return np.mean([np.log(chance / (1 - chance)) for chance in chances], 0)


def chance(logits: Any) -> Any:
    """The logistic curve."""
    return 1 / (1 + np.exp(-logits))
