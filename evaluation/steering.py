"""Ask a model server eighty French questions with each steering measure on and off, and print how French its answers are.

The measures are those of `gateway/steering.py`: a French system instruction, a bias against English function words, and an
opening from which the model goes on. The server is asked directly, so nothing is repaired and nothing refused.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import openai

from evaluation.french import Figures, Judgement, detector_name, figures, judge, sign_test
from gateway.guardrails.language import Detector, Verdict
from gateway.guardrails.rates import Rate
from gateway.steering import BIAS, INSTRUCTION, english_tokens, instructed, logit_bias, opened
from gateway.tokenizer import BadTokenizer, load

QUESTIONS = Path(__file__).resolve().parent / "data" / "questions_fr.txt"
MEASURES = ("instruction", "bias", "opening")
ALL = ["+".join(some) or "none" for count in range(len(MEASURES) + 1) for some in combinations(MEASURES, count)]
BASELINE = ALL[0]

_EXAMPLE = """example:
  passerelle serve --model smollm2-135m-instruct --cpu --port 8002
  python -m evaluation.steering --base-url http://127.0.0.1:8002/v1 --model smollm2-135m-instruct --seeds 3 \\
      --tokenizer ~/.cache/passerelle/models/smollm2-135m-instruct-b179c9523d0e-1/tokenizer.json
"""


class BadOption(Exception):
    """A sentence that names the option and what is wrong with it."""


# What is asked for one of the measures: question, seed, and the fields that the measures decide.
Asked = Sequence[tuple[str, int, Mapping[str, Any]]]


@dataclass(frozen=True)
class Means:
    """What the measures are made of; the opening is always the gateway's."""

    instruction: str
    bias: Mapping[str, float]


@dataclass(frozen=True)
class Sampling:
    """How each question is asked; `defaults` are fields a model needs besides, such as stop strings."""

    temperature: float
    max_tokens: int
    defaults: Mapping[str, Any]


@dataclass(frozen=True)
class Answer:
    """What came back for one question with one seed."""

    question: str
    seed: int
    text: str
    finish: str
    judgement: Judgement


def read_questions(path: Path = QUESTIONS) -> list[str]:
    """One a line; lines that begin with # are remarks."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def fields(measures: str, question: str, means: Means) -> dict[str, Any]:
    """The fields of a request that `measures`, one of `ALL`, decide."""
    on = measures.split("+")
    messages: list[dict[str, Any]] = [{"role": "user", "content": question}]
    if "instruction" in on:
        messages = instructed(messages, means.instruction)
    made: dict[str, Any] = opened(messages) if "opening" in on else {"messages": messages}
    return made | {"logit_bias": dict(means.bias)} if "bias" in on else made


async def ask(
    client: openai.AsyncOpenAI, model: str, made: Mapping[str, Any], seed: int, sampling: Sampling
) -> tuple[str, str]:
    """The text and why it ended. Raises openai.OpenAIError."""
    known = {"messages", "logit_bias"}
    reply = await client.chat.completions.create(
        model=model,
        messages=made["messages"],
        logit_bias=made.get("logit_bias", openai.omit),
        seed=seed,
        temperature=sampling.temperature,
        max_tokens=sampling.max_tokens,
        extra_body={**sampling.defaults, **{key: value for key, value in made.items() if key not in known}},
    )
    choice = reply.choices[0]
    return (choice.message.content or "").strip(), choice.finish_reason


async def measure(
    client: openai.AsyncOpenAI,
    model: str,
    plan: Mapping[str, Asked],
    sampling: Sampling,
    *,
    concurrency: int,
    told: Callable[[str], None],
) -> dict[str, list[Answer]]:
    """The answers by measures; `told` hears of each that is done. Raises openai.OpenAIError."""
    detector = Detector()
    free = asyncio.Semaphore(concurrency)

    async def one(question: str, seed: int, made: Mapping[str, Any]) -> Answer:
        async with free:
            text, finish = await ask(client, model, made, seed, sampling)
        return Answer(question, seed, text, finish, judge(detector, text))

    found = {}
    for number, (measures, requests) in enumerate(plan.items(), 1):
        found[measures] = await asyncio.gather(*(one(*request) for request in requests))
        rates = figures([answer.judgement for answer in found[measures]])
        told(f"{number} of {len(plan)}: {measures}: {_share(rates.french)} fully French")
    return found


def plan_of(chosen: Sequence[str], questions: Sequence[str], seeds: int, means: Means) -> dict[str, Asked]:
    """Every question so many times, for each of the measures.

    No seed is used for two questions: vLLM would draw the same numbers for both, and answers would begin alike. The measures
    share them, so that a question is compared with itself.
    """
    asked = [(question, seed) for seed, question in enumerate(list(questions) * seeds)]
    return {
        measures: [(question, seed, fields(measures, question, means)) for question, seed in asked]
        for measures in chosen
    }


def against(baseline: Sequence[Answer], answers: Sequence[Answer]) -> tuple[int, int]:
    """At how many questions fewer, and more, of the seeds' answers leave French than in the baseline."""
    before, after = _foreign_by_question(baseline), _foreign_by_question(answers)
    return (
        sum(after[question] < before[question] for question in before),
        sum(after[question] > before[question] for question in before),
    )


def table(found: Mapping[str, Sequence[Answer]]) -> str:
    """Markdown: a line for each of the measures."""
    names = ["measures", "LPR", "fully French", "too short", "leaves French at", "median length", "better / worse"]
    return "\n".join(["| " + " | ".join(names) + " |", "|---|" + "---:|" * (len(names) - 1), *_rows(found)])


def _rows(found: Mapping[str, Sequence[Answer]]) -> Iterator[str]:
    for measures, answers in found.items():
        rates: Figures = figures([answer.judgement for answer in answers])
        first = "" if rates.first_foreign is None else f"{rates.first_foreign:.0f}"
        compared = ""
        if measures != BASELINE and BASELINE in found:
            better, worse = against(found[BASELINE], answers)
            compared = f"{better} / {worse}, p = {sign_test(better, worse):.2g}"
        cells = [measures, _share(rates.lines), _share(rates.french), str(rates.short), first]
        yield "| " + " | ".join([*cells, f"{rates.characters:.0f}", compared]) + " |"


def _share(rate: Rate) -> str:
    low, high = rate.interval
    return f"{100 * rate.share:.0f} % ({100 * low:.0f}–{100 * high:.0f})" if rate.judged else "none judged"


def _foreign_by_question(answers: Sequence[Answer]) -> dict[str, int]:
    found = dict.fromkeys((answer.question for answer in answers), 0)
    for answer in answers:
        found[answer.question] += answer.judgement.whole is Verdict.FOREIGN
    return found


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="python -m evaluation.steering",
        description=__doc__,
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--base-url", default="http://127.0.0.1:8001/v1", help="of the model server; default %(default)s")
    made.add_argument("--model", required=True, help="the served name")
    made.add_argument("--tokenizer", type=Path, metavar="FILE", help="the model's tokenizer.json; the bias needs it")
    made.add_argument("--profile", type=Path, metavar="FILE", help="send the [defaults] of this TOML file as well")
    made.add_argument(
        "--only", nargs="+", choices=ALL, metavar="MEASURES", help=f"some of {', '.join(ALL)}; default all"
    )
    made.add_argument("--instruction", default=INSTRUCTION, metavar="TEXT", help="in place of '%(default)s'")
    made.add_argument("--bias", type=float, default=BIAS, help="added to the logit of each token; default %(default)s")
    made.add_argument("--temperature", type=float, default=0.7, help="default %(default)s")
    made.add_argument(
        "--seeds",
        type=int,
        default=1,
        help="times each question is asked, each time with another seed; default %(default)s",
    )
    made.add_argument("--max-tokens", type=int, default=160, help="default %(default)s")
    made.add_argument("--concurrency", type=int, default=8, help="questions at once; default %(default)s")
    made.add_argument("--json", type=Path, metavar="FILE", help="write the figures and every answer there")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """0 with the table on standard output, 1 with a sentence when a file or the server does not do."""
    options = parser().parse_args(argv)
    chosen: list[str] = options.only or [each for each in ALL if options.tokenizer or "bias" not in each]
    try:
        tokens = _tokens(options.tokenizer, needed=any("bias" in each for each in chosen))
        own = _defaults(options.profile)
    except BadOption as error:
        return _failed(str(error))
    sampling = Sampling(options.temperature, options.max_tokens, own)
    questions = read_questions()
    plan = plan_of(chosen, questions, options.seeds, Means(options.instruction, logit_bias(tokens, options.bias)))
    try:
        found = asyncio.run(_run(options, plan, sampling))
    except openai.OpenAIError as error:
        return _failed(f"{options.base_url}: {error}")
    conditions = {
        "model": options.model,
        "questions": len(questions),
        "seeds": options.seeds,
        "temperature": options.temperature,
        "tokens at most": options.max_tokens,
        "instruction": f"« {options.instruction} »",
        "bias": f"{options.bias} on {len(tokens)} tokens",
        "fields besides": json.dumps(own, ensure_ascii=False),
        "detector": detector_name(),
    }
    if options.json:
        answers = {name: [asdict(answer) for answer in some] for name, some in found.items()}
        written = json.dumps({**conditions, "answers": answers}, ensure_ascii=False, default=_value)
        options.json.write_text(written, encoding="utf-8")
    sys.stdout.write(f"{table(found)}\n\n{'; '.join(f'{name} {value}' for name, value in conditions.items())}\n")
    return 0


async def _run(options: argparse.Namespace, plan: Mapping[str, Asked], sampling: Sampling) -> dict[str, list[Answer]]:
    async with openai.AsyncOpenAI(base_url=options.base_url, api_key="none", timeout=600, max_retries=0) as client:
        return await measure(client, options.model, plan, sampling, concurrency=options.concurrency, told=_tell)


def _tokens(tokenizer: Path | None, *, needed: bool) -> list[int]:
    if tokenizer is None and needed:
        raise BadOption("the bias needs --tokenizer, the tokenizer.json of the served model")
    try:
        return english_tokens(load(tokenizer)) if tokenizer is not None else []
    except BadTokenizer as error:
        raise BadOption(f"--tokenizer holds '{tokenizer}', which {error}") from None


def _defaults(profile: Path | None) -> dict[str, Any]:
    try:
        told = tomllib.loads(profile.read_text(encoding="utf-8")) if profile is not None else {}
    except (OSError, ValueError) as error:
        raise BadOption(f"--profile holds '{profile}', which cannot be used: {error}") from None
    return {key: value for key, value in told.get("defaults", {}).items() if key not in ("temperature", "max_tokens")}


def _value(verdict: Verdict) -> str:
    return verdict.value


def _tell(line: str) -> None:
    sys.stderr.write(f"passerelle: {line}\n")


def _failed(why: str) -> int:
    _tell(why)
    return 1


if __name__ == "__main__":
    sys.exit(main())
