"""Ask a served model thirty French questions and print how French, how long and how fast its answers are.

Greedy unless the profile says otherwise, one question at a time, then all thirty eight at a time for the throughput.
The language is judged as the gateway's language guard judges it: `eldc` on the prose, in windows of about eighty characters,
one foreign window makes an answer foreign, and under twenty letters it abstains. `serving/language.py` is a copy of
`gateway/guardrails/language.py`, since this package imports nothing of ours; `tests/serving/test_measure.py` holds them equal.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

QUESTIONS = Path(__file__).resolve().parent / "data" / "questions-fr.txt"
AT_ONCE = 8

EXAMPLE = """example:
  python -m serving.measure --base-url http://127.0.0.1:8001/v1 --model gemma-3-270m --profile gemma-3-270m --show
"""


@dataclass(frozen=True)
class Answer:
    """One answer: `tokens` generated, `seconds` from asking to the end, `language` see Judge."""

    question: str
    text: str
    tokens: int
    seconds: float
    finish: str
    language: str


def read_questions(path: Path = QUESTIONS) -> list[str]:
    """One question a line; lines that begin with # are remarks."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


class Judge:
    """Tells the language of an answer: `fr`, the code of another language (`en`), or `short` for too little prose."""

    def __init__(self) -> None:
        from serving.language import Detector

        self._detector = Detector()

    def language_of(self, text: str) -> str:
        """The first foreign window's language (`?` where nobody knows), else French when any window is long enough to tell."""
        return self._detector.language(text) or "short"


def ask(base_url: str, model: str, question: str, defaults: dict[str, Any], judge: Judge) -> Answer:
    """One plain chat request. Raises OSError when the server does not answer."""
    body = {"model": model, "messages": [{"role": "user", "content": question}], "max_tokens": 256, "temperature": 0.0}
    request = urllib.request.Request(  # noqa: S310 - the address is the user's own
        f"{base_url}/chat/completions", json.dumps({**body, **defaults}).encode(), {"Content-Type": "application/json"}
    )
    started = time.monotonic()
    with urllib.request.urlopen(request, timeout=300) as reply:  # noqa: S310 - as above
        answer = json.load(reply)
    seconds = time.monotonic() - started
    choice = answer["choices"][0]
    text = str(choice["message"]["content"] or "").strip()
    return Answer(
        question,
        text,
        answer["usage"]["completion_tokens"],
        seconds,
        choice["finish_reason"],
        judge.language_of(text),
    )


def table(model: str, answers: Sequence[Answer], together: float) -> str:
    """The figures as one Markdown table; `together` is tokens/s with AT_ONCE questions at a time."""
    count = Counter(answer.language for answer in answers)
    other = len(answers) - count["fr"] - count["en"] - count["short"]

    def share(number: int) -> str:
        return f"{100 * number / len(answers):.0f} %"

    alone = sum(answer.tokens for answer in answers) / sum(answer.seconds for answer in answers)
    length = statistics.median(len(answer.text) for answer in answers)
    cut = sum(answer.finish == "length" for answer in answers)
    names = [
        "model",
        "French",
        "English",
        "other",
        "too short",
        "cut off",
        "tokens/s at 1",
        f"at {AT_ONCE}",
        "median length",
    ]
    head = "| " + " | ".join(names) + " |"
    row = [
        model,
        share(count["fr"]),
        share(count["en"]),
        share(other),
        share(count["short"]),
        f"{cut}",
        f"{alone:.0f}",
        f"{together:.0f}",
    ]
    return "\n".join([head, "|---" * len(names) + "|", "| " + " | ".join([*row, f"{length:.0f} characters"]) + " |"])


def measure(base_url: str, model: str, defaults: dict[str, Any]) -> tuple[list[Answer], float]:
    """The answers one at a time, and the tokens/s of the same questions AT_ONCE at a time."""
    questions = read_questions()
    judge = Judge()
    answers = [ask(base_url, model, question, defaults, judge) for question in questions]
    started = time.monotonic()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        again = list(pool.map(lambda question: ask(base_url, model, question, defaults, judge), questions))
    return answers, sum(answer.tokens for answer in again) / (time.monotonic() - started)


def main(argv: list[str] | None = None) -> int:
    """0 with the table on standard output, 1 when the server does not answer or the profile is unknown."""
    from serving.errors import ServingError
    from serving.profiles import find_profile

    parser = argparse.ArgumentParser(
        prog="python -m serving.measure",
        description=__doc__,
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--base-url", default="http://127.0.0.1:8001/v1", help="default %(default)s")
    parser.add_argument("--model", required=True, help="the served name")
    parser.add_argument("--profile", help="use the request defaults of this profile (default: none)")
    parser.add_argument("--show", action="store_true", help="print every question with its answer")
    options = parser.parse_args(argv)
    try:
        defaults = dict(find_profile(options.profile).defaults) if options.profile else {}
        answers, together = measure(options.base_url.rstrip("/"), options.model, defaults)
    except (OSError, ServingError) as error:
        sys.stderr.write(f"passerelle: {options.base_url}: {error}\n")
        return 1
    lines = [
        f"[{a.language}, {a.tokens} tokens, {a.finish}] {a.question}\n    {a.text}" for a in answers if options.show
    ]
    sys.stdout.write("\n".join([*lines, "", table(options.model, answers, together), ""]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
