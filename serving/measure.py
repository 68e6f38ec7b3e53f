"""Ask a served model thirty French questions and print how French, how long and how fast its answers are.

Greedy unless the profile says otherwise, one question at a time, then all thirty eight at a time for the throughput.
Language by `eldc` on what remains without code, addresses and quotations; under twenty letters it abstains.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
import time
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

QUESTIONS = Path(__file__).resolve().parent / "data" / "questions-fr.txt"
LETTERS_NEEDED = 20
MARGIN = 0.05
AT_ONCE = 8

_SET_ASIDE = re.compile(r"```.*?(?:```|\Z)|`[^`]*`|https?://\S+|\$[^$]+\$|«[^»]*»|“[^”]*”|\"[^\"]*\"", re.DOTALL)

EXAMPLE = """example:
  python -m serving.measure --base-url http://127.0.0.1:8001/v1 --model gemma-3-270m --profile gemma-3-270m --show
"""


@dataclass(frozen=True)
class Answer:
    """One answer: `tokens` generated, `seconds` from asking to the end, `language` fr, en, another code or `short`."""

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


def language_of(text: str) -> str:
    """The language of an answer, `short` below twenty letters, `unsure` where French follows within the margin."""
    import eldc

    prose = _SET_ASIDE.sub(" ", text).replace("\x00", " ").encode("utf-8", "replace").decode("utf-8")[:1000]
    if sum(letter.isalpha() for letter in prose) < LETTERS_NEEDED:
        return "short"
    eldc.init()
    found = eldc.detect_details(prose)
    best = found.scores.get(found.language, 0.0)
    if found.language != "fr" and best - found.scores.get("fr", 0.0) < MARGIN:
        return "unsure"
    return str(found.language or "unsure")


def ask(base_url: str, model: str, question: str, defaults: dict[str, Any]) -> Answer:
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
        question, text, answer["usage"]["completion_tokens"], seconds, choice["finish_reason"], language_of(text)
    )


def table(model: str, answers: Sequence[Answer], together: float) -> str:
    """The figures as one Markdown table; `together` is tokens/s with AT_ONCE questions at a time."""

    def share(*languages: str) -> str:
        return f"{100 * sum(answer.language in languages for answer in answers) / len(answers):.0f} %"

    known = ("fr", "en", "short", "unsure")
    other = f"{100 * sum(answer.language not in known for answer in answers) / len(answers):.0f} %"
    alone = sum(answer.tokens for answer in answers) / sum(answer.seconds for answer in answers)
    length = statistics.median(len(answer.text) for answer in answers)
    cut = sum(answer.finish == "length" for answer in answers)
    names = [
        "model",
        "French",
        "English",
        "other",
        "unsure",
        "too short",
        "cut off",
        "tokens/s at 1",
        f"at {AT_ONCE}",
        "median length",
    ]
    head = "| " + " | ".join(names) + " |"
    row = [
        model,
        share("fr"),
        share("en"),
        other,
        share("unsure"),
        share("short"),
        f"{cut}",
        f"{alone:.0f}",
        f"{together:.0f}",
    ]
    return "\n".join([head, "|---" * 10 + "|", "| " + " | ".join([*row, f"{length:.0f} characters"]) + " |"])


def measure(base_url: str, model: str, defaults: dict[str, Any]) -> tuple[list[Answer], float]:
    """The answers one at a time, and the tokens/s of the same questions AT_ONCE at a time."""
    questions = read_questions()
    answers = [ask(base_url, model, question, defaults) for question in questions]
    started = time.monotonic()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        again = list(pool.map(lambda question: ask(base_url, model, question, defaults), questions))
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
