"""Ask the gateway French questions and say what was delivered: is every sentence French, how many were repaired or refused?

Streamed, through the official SDK, as an application asks. The sentences are cut as the output gate cuts them and judged one by
one by the gateway's detector; those of fewer than twenty letters are too short to tell and counted apart.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai

from evaluation.french import HOLD, detector_name
from gateway.guardrails import sentences
from gateway.guardrails.language import Detector, Verdict, enough, prose
from gateway.guardrails.rates import Rate

QUESTIONS = Path(__file__).resolve().parent / "data" / "questions_fr.txt"

CLOSING = "la suite de ma réponse n'était pas en français."  # how the gateway ends an answer that cannot go on

_EXAMPLE = """example:
  passerelle up --model smollm2-135m-instruct --cpu
  PASSERELLE_KEY=pk_… python -m evaluation.delivered --base-url http://127.0.0.1:8000/v1 --model smollm2-135m-instruct
"""


@dataclass(frozen=True)
class Delivered:
    """One answer as its caller got it. `repairs` are answers, or ends of one, that were thrown away for not being French."""

    question: str
    text: str
    finish: str | None
    repairs: int


@dataclass(frozen=True)
class Summary:
    """What was delivered in all: sentences long enough to judge, and what became of the answers."""

    french: Rate
    short: int
    whole: Rate
    repaired: Rate
    refused: Rate
    ended_early: Rate
    foreign: list[str]


def cut(text: str) -> Iterator[str]:
    """The sentences of a text, as the output gate cuts it."""
    start = 0
    while (stop := sentences.end(text, start, HOLD)) is not None:
        if text[start:stop].strip():
            yield text[start:stop]
        start = stop
    if text[start:].strip():
        yield text[start:]


def summed(detector: Detector, answers: Sequence[Delivered]) -> Summary:
    """The figures over answers."""
    long, short, foreign = 0, 0, []
    for answer in answers:
        for sentence in cut(answer.text):
            if not enough(prose(sentence)):
                short += 1
                continue
            long += 1
            if detector.judge(sentence) is Verdict.FOREIGN:
                foreign.append(sentence.strip())
    count = len(answers)
    blocked = [answer for answer in answers if answer.finish == "content_filter"]
    ended = [answer for answer in blocked if answer.text.endswith(CLOSING)]
    untouched = sum(answer.finish != "content_filter" and not answer.repairs for answer in answers)
    repaired = sum(answer.finish != "content_filter" and answer.repairs > 0 for answer in answers)
    return Summary(
        french=Rate(long - len(foreign), long),
        short=short,
        whole=Rate(untouched, count),
        repaired=Rate(repaired, count),
        refused=Rate(len(blocked) - len(ended), count),
        ended_early=Rate(len(ended), count),
        foreign=foreign,
    )


async def ask(client: openai.AsyncOpenAI, model: str, question: str, fields: dict[str, Any]) -> Delivered:
    """One streamed answer with its audit."""
    stream = await client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": question}],
        stream=True,
        extra_body={"passerelle": {"audit": True}, **fields},
    )
    text, finish, audit = "", None, dict[str, Any]()
    async for chunk in stream:
        audit = (chunk.model_extra or {}).get("passerelle", audit)
        for choice in chunk.choices:
            text += choice.delta.content or ""
            finish = choice.finish_reason or finish
    return Delivered(question, text, finish, audit["repairs"])


async def asked(options: argparse.Namespace) -> list[Delivered]:
    """All answers, some at a time."""
    lines = options.questions.read_text(encoding="utf-8").splitlines()
    questions = [line for line in lines if line and not line.startswith("#")][: options.limit]
    turns, done = asyncio.Semaphore(options.at_once), 0
    fields: dict[str, Any] = {"max_tokens": options.max_tokens, "seed": 7}
    if options.temperature is not None:
        fields["temperature"] = options.temperature
    async with openai.AsyncOpenAI(base_url=options.base_url, api_key=options.key, timeout=600) as client:

        async def one(question: str) -> Delivered:
            nonlocal done
            async with turns:
                answer = await ask(client, options.model, question, fields)
            done += 1
            sys.stderr.write(f"{done} of {len(questions)}\n")
            return answer

        return list(await asyncio.gather(*map(one, questions)))


def table(summary: Summary) -> str:
    """Markdown; shares with their 95 % intervals (Wilson)."""
    rows = {
        "delivered sentences of twenty letters and more that are French": summary.french,
        "answers delivered as the model gave them": summary.whole,
        "answers repaired (asked again, or gone on with in French)": summary.repaired,
        "answers refused in French": summary.refused,
        "answers ended early, in French": summary.ended_early,
    }
    lines = [f"| detector {detector_name()} | share | |", "|---|---:|---|"]
    for name, rate in rows.items():
        low, high = rate.interval
        lines.append(
            f"| {name} | {100 * rate.share:.1f} % | {rate.passed} of {rate.judged}, {100 * low:.0f}–{100 * high:.0f} |"
        )
    return "\n".join([*lines, "", f"{summary.short} sentences were too short to tell.", *summary.foreign])


def main(argv: Sequence[str] | None = None) -> int:
    """0 where every sentence is French, 1 where one is not or the gateway cannot be asked."""
    parser = argparse.ArgumentParser(
        prog="python -m evaluation.delivered",
        description=__doc__,
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--base-url", default="http://127.0.0.1:8000/v1", help="the gateway's (%(default)s)")
    parser.add_argument("--model", required=True, help="the published name")
    parser.add_argument("--questions", type=Path, default=QUESTIONS, help="one a line (those of the project)")
    parser.add_argument("--limit", type=int, help="so many of them")
    parser.add_argument("--at-once", type=int, default=4, help="requests under way (%(default)s)")
    parser.add_argument("--max-tokens", type=int, default=160, help="of an answer (%(default)s)")
    parser.add_argument("--temperature", type=float, help="by default the target's own")
    parser.add_argument("--json", type=Path, help="write every answer here")
    options = parser.parse_args(argv)
    options.key = os.environ.get("PASSERELLE_KEY", "")
    if not options.key:
        sys.stderr.write("PASSERELLE_KEY is not set: it holds an API key or a token of the gateway.\n")
        return 1
    try:
        answers = asyncio.run(asked(options))
    except (openai.OpenAIError, OSError) as error:
        sys.stderr.write(f"{options.base_url}: {error}\n")
        return 1
    summary = summed(Detector(), answers)
    if options.json:
        written = [vars(answer) for answer in answers]
        options.json.write_text(json.dumps(written, ensure_ascii=False, indent=1), encoding="utf-8")
    sys.stdout.write(table(summary) + "\n")
    return 1 if summary.foreign else 0


if __name__ == "__main__":
    sys.exit(main())
