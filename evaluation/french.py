"""How French answers are: two rates and an offset, from the gateway's own detector.

The line-level pass rate is that of the Language Confusion Benchmark (Marchisio et al., 2024, arXiv:2406.20052): the share of
answers all of whose lines are in the expected language. The benchmark's code (`compute_metrics.py` of for-ai/language-confusion)
leaves out lines of fewer than five words, and answers without another line. Here a line counts from `LINE_LETTERS` letters of
prose, since below that our detector abstains; and it is asked about each eighty characters of a long line, so that a line which
turns English half-way fails. Figures are therefore to be compared with one another, not with those of the paper.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from statistics import median

from gateway.guardrails.drift import LanguageStage
from gateway.guardrails.gate import Drift
from gateway.guardrails.language import MIN_LETTERS, Detector, Verdict
from gateway.guardrails.rates import Rate

LINE_LETTERS = MIN_LETTERS
# Characters: the longest sentence that the gate judges whole (`guards.language.hold_characters`, its default).
HOLD = 400

_WORD = re.compile(r"\s*\S+\s*")


@dataclass(frozen=True)
class Judgement:
    """One answer: `lines` by the line, `whole` sentence by sentence; `characters` long.

    `first_foreign` is the offset of the sentence in which it leaves French: the gate would have delivered what lies before it.
    """

    lines: Verdict
    whole: Verdict
    first_foreign: int | None
    characters: int


@dataclass(frozen=True)
class Figures:
    """Of many answers. An answer with too little prose to tell is in neither rate; `short` counts those of `french`."""

    lines: Rate
    french: Rate
    short: int
    first_foreign: float | None
    characters: float


def detector_name() -> str:
    """To be named beside every figure."""
    return f"eldc {version('eldc')}"


def by_line(detector: Detector, text: str) -> Verdict:
    """Foreign when any line is; undecided when no line has `LINE_LETTERS` letters of prose."""
    verdicts = {detector.judge(line) for line in text.splitlines()}
    return next((known for known in (Verdict.FOREIGN, Verdict.FRENCH) if known in verdicts), Verdict.UNDECIDED)


def by_sentence(detector: Detector, text: str) -> tuple[Verdict, int | None]:
    """As the gateway's gate judges an answer that arrives word by word, and the offset at which it would stop it."""
    stage = LanguageStage(detector, hold=HOLD, enforce=True)
    delivered = 0
    try:
        for word in _WORD.finditer(text):
            delivered += len(stage.feed(word.group()))
        stage.finish()
    except Drift:
        rest = text[delivered:]
        return Verdict.FOREIGN, delivered + len(rest) - len(rest.lstrip())
    return stage.verdict, None


def judge(detector: Detector, text: str) -> Judgement:
    """Both judgements on one answer."""
    whole, first = by_sentence(detector, text)
    return Judgement(by_line(detector, text), whole, first, len(text))


def sign_test(better: int, worse: int) -> float:
    """The two-sided p of the exact sign test: how often chance alone divides so many pairs so unevenly or more."""
    count = better + worse
    tail = sum(math.comb(count, at_most) for at_most in range(min(better, worse) + 1))
    return min(1.0, float(2 * tail / 2**count))


def figures(judgements: Sequence[Judgement]) -> Figures:
    """The rates over answers, at least one; `first_foreign` and `characters` are medians."""
    foreign = [each.first_foreign for each in judgements if each.first_foreign is not None]
    return Figures(
        lines=_rate([each.lines for each in judgements]),
        french=_rate([each.whole for each in judgements]),
        short=sum(each.whole is Verdict.UNDECIDED for each in judgements),
        first_foreign=median(foreign) if foreign else None,
        characters=median(each.characters for each in judgements),
    )


def _rate(verdicts: Sequence[Verdict]) -> Rate:
    return Rate(
        sum(verdict is Verdict.FRENCH for verdict in verdicts),
        sum(verdict is not Verdict.UNDECIDED for verdict in verdicts),
    )
