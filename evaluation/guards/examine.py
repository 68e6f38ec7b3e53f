"""Examines a model on labelled sentences it was not trained on.

They are lines of JSON with `label`, `cat`, `text` and maybe `lang` and `origin`. It counts at the thresholds the model
suggests, with 95 % intervals (Wilson, 1927), and times itself.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from statistics import median

from gateway.guardrails.classifier import Classifier


def wilson(count: int, total: int) -> str:
    """`count` of `total` with its interval, in percent."""
    z = 1.96
    share, width = count / total, 1 + z * z / total
    middle = (share + z * z / (2 * total)) / width
    reach = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total)) / width
    return f"{count}/{total} = {share:.1%} [{max(middle - reach, 0):.0%}, {middle + reach:.0%}]"


def examine(classifier: Classifier, rows: Iterable[dict[str, str | int]]) -> None:
    """Prints the share above each threshold, by language, origin and category."""
    scores: dict[str, list[float]] = defaultdict(list)
    seconds = []
    for row in rows:
        began = time.perf_counter()
        score = classifier.score(str(row["text"]))
        seconds.append(time.perf_counter() - began)
        kind = f"{row.get('lang', '')} {'attack' if row['label'] else 'harmless'}".strip()
        for part in ("", f" {row.get('origin', '')}", f" {row.get('origin', '')} {row['cat']}"):
            scores[kind + part.rstrip()].append(score)
    for name in sorted(scores):
        above = [
            sum(score >= limit for score in scores[name]) for limit in (classifier.model.high, classifier.model.low)
        ]
        high, low = (wilson(count, len(scores[name])) for count in above)
        print(f"{name}: {high} at high, {low} at low")
    print(f"median {median(seconds) * 1e6:.0f} µs a text")


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        description="Examine a model on sentences it was not trained on.",
        epilog="example: python -m evaluation.guards.examine gateway/guardrails/models/injection.json held_out.jsonl",
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("rows", type=Path)
    given = parser.parse_args()
    lines = given.rows.read_text(encoding="utf-8").splitlines()
    examine(Classifier.load(given.model), [json.loads(line) for line in lines if line.strip()])


if __name__ == "__main__":
    main()
