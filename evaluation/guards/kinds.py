"""Trains the table of kinds of abuse, `gateway/guardrails/models/kinds.json`, from the abuse in `data/moderation_fr.jsonl`.

Logistic regression, one kind against the others, over the grams that the gateway reads; those of little weight are left out. The
same data and date give the same bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np
from scipy import sparse
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict
from sklearn.multiclass import OneVsRestClassifier

from gateway.guardrails.classifier import FORMAT
from gateway.guardrails.disguise import tokens
from gateway.guardrails.grams import grams
from gateway.guardrails.kinds import Table

HERE = Path(__file__).parent
OUT = HERE.parents[1] / "gateway" / "guardrails" / "models" / "kinds.json"
# The data's categories, by the names of OpenAI's.
KINDS = {
    "insulte": "harassment",
    "harcelement": "harassment",
    "haine": "hate",
    "menace": "harassment/threatening",
    "sexuel": "sexual",
}
_KEPT = 6000  # grams
_C = 30.0


def train(date: str) -> Table:
    """Trains and prints how often the kind is right, out of fold."""
    content = b"".join((HERE / "data" / f"{name}.jsonl").read_bytes() for name in ("moderation_fr", "moderation_fr_2"))
    rows = [row for row in map(json.loads, content.splitlines()) if row["label"]]
    lists = [[*grams(tokens(row["text"]))] for row in rows]
    counter = CountVectorizer(analyzer=list, dtype=np.float64, min_df=2)
    matrix = sparse.diags(1 / np.sqrt([len(found) for found in lists])) @ counter.fit_transform(lists)
    wanted = np.array([KINDS[row["cat"]] for row in rows])
    regression = OneVsRestClassifier(
        LogisticRegression(C=_C, class_weight="balanced", solver="liblinear", random_state=0)
    )
    guessed = cross_val_predict(regression, matrix, wanted, cv=5)
    for kind in sorted(set(wanted)):
        here = wanted == kind
        found, right = np.mean(guessed[here] == kind), np.mean(wanted[guessed == kind] == kind)
        print(f"{kind}: {found:.0%} of {here.sum()} found, {right:.0%} right")
    regression.fit(matrix, wanted)
    weights = np.vstack([one.coef_[0] for one in regression.estimators_]).T
    biases = [round(float(one.intercept_[0]), 4) for one in regression.estimators_]
    kept = np.argsort(-np.abs(weights).max(1), kind="stable")[:_KEPT]
    unit = float(np.abs(weights[kept]).max()) / 127
    whole = np.rint(weights[kept] / unit).astype(int)
    names = counter.get_feature_names_out()
    table = {
        str(names[index]): [int(weight) for weight in row]
        for index, row in sorted(zip(kept, whole, strict=True), key=lambda pair: pair[0])
    }
    digest = hashlib.sha256(content).hexdigest()
    return Table(FORMAT, date, digest, [str(kind) for kind in regression.classes_], biases, unit, table)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        description="Train the table of kinds of abuse.",
        epilog="example: python -m evaluation.guards.kinds --date 2026-11-26",
    )
    parser.add_argument("--date", default=datetime.now(UTC).date().isoformat(), help="written into the table (today)")
    parser.add_argument("--out", type=Path, default=OUT, help="file to write (the gateway's own)")
    options = parser.parse_args()
    options.out.write_bytes(msgspec.json.encode(train(options.date)))
    print(f"{options.out}: {options.out.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
