"""Trains a model of `gateway/guardrails/models/` from the sentences of `evaluation/guards/data/`.

Logistic regression over TF-IDF-like weights of the grams that the gateway reads. Figures and thresholds come from sentences
that the model asked had not seen (folds by groups of near-duplicates). The same data and date give the same bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import wordfreq
from scipy import sparse
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold

from evaluation.guards import second
from gateway.guardrails.classifier import FORMAT, Model, Weights
from gateway.guardrails.disguise import tokens
from gateway.guardrails.grams import grams

HERE = Path(__file__).parent
MODELS = HERE.parents[1] / "gateway" / "guardrails" / "models"
DATA = {
    "injection": ["injection_fr", "injection_fr_2", "injection_en", "injection_en_2"],
    "moderation": ["moderation_fr", "moderation_fr_2"],
    "distress": ["distress_fr", "distress_fr_2"],
}
# Everyday language, harmless to every task.
ORDINARY = ["ordinary_fr", "ordinary_fr_2", "ordinary_en"]
# Categories that another task's files call harmless and that are not so here: they are left out.
_NOT_LENT = {("moderation", "menace"), ("distress", "detresse"), ("distress", "sante")}
# Share of the harmless sentences (which were written to be hard) that may lie above the threshold.
HIGH = {"injection": 0.015, "moderation": 0.025, "distress": 0.03}
LOW = {"injection": 0.05, "moderation": 0.15, "distress": 0.05}
_COSTLY = {"client_colere": 5.0}  # how much more than another row one weighs: an angry customer must not be silenced
_C = 30.0  # inverse strength of the L2 penalty
_FOLDS = 5
_SALAD, _COMMON_WORDS = 4000, 20_000
_SEED = 0
_LENT = 5000
_WITH_CODE = 600
_ALIKE = 0.5  # share of common words (Jaccard) from which two sentences are kept in one fold
_CLIP = 99.99  # percentile of the weights that becomes 127


class Row(NamedTuple):
    """A sentence. `own` tells one of the task's own files from one that another task lends, which is harmless here."""

    text: str
    label: int
    category: str
    own: bool
    fold: int = 0


def read(task: str) -> tuple[list[Row], str]:
    """The sentences for a task, each once, and the SHA-256 of the files they come from."""
    seen: dict[str, Row] = {}
    digest = hashlib.sha256()
    names = DATA[task] + sorted(name for other in DATA if other != task for name in DATA[other]) + ORDINARY
    for name in names:
        content = (HERE / "data" / f"{name}.jsonl").read_bytes()
        digest.update(content)
        own = name in DATA[task]
        for line in content.splitlines():
            row = json.loads(line)
            if not own and (task, row["cat"]) in _NOT_LENT:
                continue
            seen.setdefault(row["text"], Row(row["text"], row["label"] if own else 0, row["cat"], own))
    return folded(list(seen.values())), digest.hexdigest()


def folded(rows: list[Row]) -> list[Row]:
    """The rows with their folds; near-duplicates share one."""
    splitter = StratifiedGroupKFold(_FOLDS, shuffle=True, random_state=_SEED)
    folds = np.zeros(len(rows), int)
    for fold, (_, test) in enumerate(splitter.split(rows, [row.label for row in rows], groups(rows))):
        folds[test] = fold
    return [row._replace(fold=int(fold)) for row, fold in zip(rows, folds, strict=True)]


def salad(count: int) -> list[Row]:
    """Harmless rows of words drawn by their frequency: without them, what is merely unknown looks like an attack."""
    rng = random.Random(_SEED)  # noqa: S311  # no secret
    made = []
    for language in ("fr", "en"):
        words = wordfreq.top_n_list(language, _COMMON_WORDS)
        frequencies = [wordfreq.word_frequency(word, language) for word in words]
        for number in range(count // 2):
            text = " ".join(rng.choices(words, frequencies, k=rng.randint(4, 36)))
            made.append(Row(text, 0, "salad", False, number % _FOLDS))
    return made


def with_code(rows: list[Row], count: int) -> list[Row]:
    """So many rows of the task, of both labels, with a piece of code after them: code says nothing of what is asked."""
    rng = random.Random(_SEED)  # noqa: S311  # no secret
    content = (HERE / "data" / "snippets.txt").read_text(encoding="utf-8")
    snippets = [f"```{piece}```" for piece in content.split("```")[1::2]]
    chosen = rng.sample([row for row in rows if row.own], count)
    return [row._replace(text=f"{row.text}\n\n{rng.choice(snippets)}") for row in chosen]


class Grams:
    """The grams of all rows, counted once."""

    def __init__(self, rows: list[Row]) -> None:
        lists = [[*grams(tokens(row.text))] for row in rows]
        counter = CountVectorizer(analyzer=list, dtype=np.float64)
        counts = counter.fit_transform(lists)
        self.names = counter.get_feature_names_out()
        self.rows = sparse.diags(1 / np.sqrt([len(found) or 1 for found in lists])) @ counts

    def weighted(self, seen: Any) -> tuple[Any, Any]:
        """All rows weighted by how rare a gram is in the rows `seen` (smoothed idf; in one row only: 0), and these factors."""
        known = self.rows[seen]
        rows_with = np.bincount(known.indices, minlength=known.shape[1])
        factors = np.where(rows_with > 1, np.log((1 + known.shape[0]) / (1 + rows_with)) + 1, 0)
        norm = np.sqrt(known.multiply(known).multiply(factors**2).sum(1).mean())
        return self.rows @ sparse.diags(factors / norm), factors / norm


def groups(rows: list[Row]) -> Any:
    """A number for each row; rows that share most of their words share it."""
    counter = CountVectorizer(analyzer=lambda row: set(tokens(row.text)), dtype=np.float32)
    words = counter.fit_transform(rows)
    common = (words @ words.T).tocoo()
    sizes = np.asarray(words.sum(1)).ravel()
    alike = common.data >= _ALIKE * (sizes[common.row] + sizes[common.col] - common.data)
    pairs = (common.data[alike], (common.row[alike], common.col[alike]))
    return sparse.csgraph.connected_components(sparse.coo_matrix(pairs, shape=common.shape))[1]


def fitted(matrix: Any, labels: Any, costs: Any) -> LogisticRegression:
    """Classes weigh the same, whatever their number of rows; `costs` is what a row weighs within its class."""
    regression = LogisticRegression(
        C=_C, class_weight="balanced", solver="liblinear", max_iter=1000, random_state=_SEED
    )
    return regression.fit(matrix, labels, sample_weight=costs)


def unseen(table: Grams, labels: Any, costs: Any, folds: Any) -> Any:
    """The score of each row by a model trained without its fold."""
    scores = np.zeros(len(labels))
    for fold in range(_FOLDS):
        train, test = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        matrix, _ = table.weighted(train)
        scores[test] = fitted(matrix[train], labels[train], costs[train]).decision_function(matrix[test])
    return scores


def threshold(harmless: Any, share: float) -> float:
    """The probability above which at most `share` of the harmless scores lie."""
    return round(float(np.quantile(harmless, 1 - share)), 3)


def train(task: str, date: str) -> Model[Weights]:
    """Trains and prints what to expect of the model."""
    rows, digest = read(task)
    rows += with_code(rows, _WITH_CODE) + salad(_SALAD)
    labels = np.array([row.label for row in rows])
    own = np.array([row.own for row in rows])
    costs = np.array([_COSTLY.get(row.category, 1.0) if row.own else 1.0 for row in rows])
    table = Grams(rows)
    scores = unseen(table, labels, costs, np.array([row.fold for row in rows]))
    curve = LogisticRegression(C=1e6).fit(scores[own, None], labels[own])  # Platt (1999)
    slope, offset = float(curve.coef_[0, 0]), float(curve.intercept_[0])
    chances = second.chance(slope * scores + offset)
    harmless = own & (labels == 0)
    high, low = (threshold(chances[harmless], share[task]) for share in (HIGH, LOW))
    high = max(high, threshold(chances[~own], second.ORDINARY_HIGH))
    print("the first look alone:")
    report(rows, labels, chances, (high, low))
    kept = own | _sampled(rows)
    picked = [row for row, keep in zip(rows, kept, strict=True) if keep]
    spared = np.array([row.own and row.category in _COSTLY for row in picked])
    folds = np.array([row.fold for row in picked])
    looks = second.Looks(slope * scores[kept] + offset, labels[kept], own[kept], folds, spared)
    learned, final = second.train(second.vectors([row.text for row in picked]), looks, high=HIGH[task], low=LOW[task])
    asked = np.mean((chances[harmless] >= learned.since) & (chances[harmless] < learned.until))
    print(f"both looks (a second one for {asked:.0%} of the harmless rows):")
    report(picked, labels[kept], final, (learned.high, learned.low))

    matrix, factors = table.weighted(np.arange(len(rows)))
    regression = fitted(matrix, labels, costs)
    weights = regression.coef_[0] * factors * slope
    unit = float(np.percentile(np.abs(weights[factors > 0]), _CLIP)) / 127
    whole = np.clip(np.rint(weights / unit), -127, 127).astype(int)
    weighed = {str(table.names[index]): int(whole[index]) for index in np.flatnonzero(whole)}
    bias = float(regression.intercept_[0]) * slope + offset
    return Model(FORMAT, task, date, digest, high, low, bias, unit, weighed, learned)


def _sampled(rows: list[Row]) -> Any:
    """Which of the sentences that others lend the second look learns from."""
    lent = [index for index, row in enumerate(rows) if not row.own and row.category != "salad"]
    chosen = np.zeros(len(rows), bool)
    chosen[random.Random(_SEED).sample(lent, min(_LENT, len(lent)))] = True  # noqa: S311  # no secret
    return chosen


def report(rows: list[Row], labels: Any, chances: Any, limits: tuple[float, float]) -> None:
    """Figures out of fold, in all and by category."""
    own = np.array([row.own for row in rows])
    print(f"{own.sum()} own rows, {labels[own].sum()} of them attacks; {(~own).sum()} harmless rows lent or drawn")
    print(f"out of fold: AUC {roc_auc_score(labels[own], chances[own]):.3f}")
    for name, limit in zip(("high", "low"), limits, strict=True):
        recall, alarms = (np.mean(chances[own & (labels == label)] >= limit) for label in (1, 0))
        others = np.mean(chances[~own] >= limit)
        print(f"  {name} {limit}: recall {recall:.1%}, false alarms {alarms:.1%}, {others:.1%} of those lent or drawn")
    kinds = sorted({(row.label, row.category) for row in rows if row.own}, key=str)
    for label, category in kinds:
        here = np.array([row.own and (row.label, row.category) == (label, category) for row in rows])
        print(
            f"  {'attack' if label else 'harmless'} {category}: {np.sum(chances[here] >= limits[0])}/{here.sum()} above high"
        )


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        description="Train a guard's model and say what to expect of it.",
        epilog="example: python -m evaluation.guards.train injection --date 2026-11-26",
    )
    parser.add_argument("task", choices=sorted(DATA))
    parser.add_argument("--date", default=datetime.now(UTC).date().isoformat(), help="written into the model (today)")
    parser.add_argument("--out", type=Path, help="file to write (the gateway's own)")
    given = parser.parse_args()
    model = train(given.task, given.date)
    out = given.out or MODELS / f"{given.task}.json"
    out.write_bytes(msgspec.json.encode(model))
    print(f"{out}: {len(model.weights)} weights, {out.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
