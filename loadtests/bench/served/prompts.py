"""What is asked in French: questions of the load tests, many in one prompt, and how long each answer is to be."""

from __future__ import annotations

import json
import random
from pathlib import Path

from loadtests.bench.questions import QUESTIONS

_QUESTION_TOKENS = 15  # of a question in the mean, by Falcon's tokenizer


def lengths(mean: int, spread: float, count: int) -> list[int]:
    """So many lengths with this mean, evenly from `1 - spread` to `1 + spread` times it, in an order that is always the same.

    Answers that are all equally long end together, and the next prompts come together: nobody's users do so.
    """
    steps = [(2 * place + 1) / count - 1 for place in range(count)]  # around 0, between -1 and 1
    found = [max(1, round(mean * (1 + spread * step))) for step in steps]
    random.Random(count).shuffle(found)  # noqa: S311  # an order, no secret
    return found


def prompts(seed: int, mean: int, count: int) -> list[str]:
    """So many prompts of about `mean` tokens, of which no two begin alike, nor those of two seeds."""
    chance, found = random.Random(seed), []  # noqa: S311  # as above
    for number in range(count):
        asked = chance.choices(QUESTIONS, k=max(1, mean // _QUESTION_TOKENS))
        found.append(f"Dossier {seed}-{number}. {' '.join(asked)}")
    return found


def write(path: Path, seed: int, input_len: int, output_lens: list[int]) -> None:
    """A file for the tool's data set `custom`, a prompt for each of these lengths."""
    asked = prompts(seed, input_len, len(output_lens))
    lines = [
        json.dumps({"prompt": prompt, "output_tokens": tokens}, ensure_ascii=False)
        for prompt, tokens in zip(asked, output_lens, strict=True)
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
