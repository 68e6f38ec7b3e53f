"""The figures on answers whose language is known."""

import math

import pytest

from evaluation.french import Figures, Judgement, by_line, by_sentence, figures, judge, sign_test
from gateway.guardrails.language import Detector, Verdict
from gateway.guardrails.rates import Rate

DETECTOR = Detector()

FRENCH = "Votre avis est lu par les équipes concernées dans la semaine qui suit son envoi."
MORE = "Un courriel vous est envoyé à chaque étape, et vous pouvez y répondre."
ENGLISH = "Your feedback is read by the teams in charge within the week after you have sent it."
SPANISH = "Su solicitud ha sido registrada y le responderemos en un plazo de dos días."


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (FRENCH, Verdict.FRENCH),
        (f"{FRENCH}\n\n{MORE}", Verdict.FRENCH),
        (ENGLISH, Verdict.FOREIGN),
        (SPANISH, Verdict.FOREIGN),
        (f"{FRENCH}\n{ENGLISH}\n{MORE}", Verdict.FOREIGN),
        (f"{FRENCH} {ENGLISH}", Verdict.FOREIGN),
        ("Oui.", Verdict.UNDECIDED),
        ("", Verdict.UNDECIDED),
        ("Oui.\nNon.\nPeut-être.", Verdict.UNDECIDED),
        (f"Yes.\n{FRENCH}", Verdict.FRENCH),  # a line too short to tell is passed over, whatever it says
        ("Thank you, my boys\n" + FRENCH, Verdict.FRENCH),  # fourteen letters
        ("Thank you for your patience\n" + FRENCH, Verdict.FOREIGN),  # twenty-three
        ("1. Open\n2. Close\n3. Save\n" + FRENCH, Verdict.FRENCH),
    ],
)
def test_an_answer_passes_by_the_line_when_every_line_long_enough_is_french(text: str, expected: Verdict) -> None:
    assert by_line(DETECTOR, text) is expected


@pytest.mark.parametrize(
    ("text", "expected", "offset"),
    [
        (FRENCH, Verdict.FRENCH, None),
        (f"{FRENCH} {MORE}\n{FRENCH}", Verdict.FRENCH, None),
        ("", Verdict.UNDECIDED, None),
        (" \n", Verdict.UNDECIDED, None),
        ("Oui.", Verdict.UNDECIDED, None),
        (ENGLISH, Verdict.FOREIGN, 0),
        (f"{FRENCH} {ENGLISH}", Verdict.FOREIGN, len(FRENCH) + 1),
        (f"{FRENCH}\n\n{ENGLISH}\n{MORE}", Verdict.FOREIGN, len(FRENCH) + 2),
        (f"{FRENCH} {MORE} {SPANISH}", Verdict.FOREIGN, len(f"{FRENCH} {MORE} ")),
        # Sentences too short to tell are held with the one after them, so the offset is theirs.
        (f"{FRENCH} Oui. {ENGLISH}", Verdict.FOREIGN, len(FRENCH) + 1),
        (f"Thank you. I am sorry. {FRENCH}", Verdict.FRENCH, None),
        # Code is no drift, whatever the words in it.
        (f"{FRENCH}\n```python\nprint('the sum of the values', sum(values))\n```\n", Verdict.FRENCH, None),
    ],
)
def test_an_answer_is_judged_by_the_sentence_and_stopped_where_the_gate_would(
    text: str, expected: Verdict, offset: int | None
) -> None:
    assert by_sentence(DETECTOR, text) == (expected, offset)


def test_both_judgements_come_together() -> None:
    text = f"{FRENCH}\n{ENGLISH}"
    assert judge(DETECTOR, text) == Judgement(Verdict.FOREIGN, Verdict.FOREIGN, len(FRENCH) + 1, len(text))


@pytest.mark.parametrize(
    ("passed", "judged", "low", "high"),
    [
        # Newcombe (1998, Statistics in Medicine 17:857-872), table I, method 3.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (20, 20, 0.8389, 1.0000),
    ],
)
def test_the_interval_is_wilsons(passed: int, judged: int, low: float, high: float) -> None:
    assert Rate(passed, judged).interval == pytest.approx((low, high), abs=5e-5)


def test_nothing_judged_says_nothing() -> None:
    assert math.isnan(Rate(0, 0).share)
    assert Rate(0, 0).interval == (0.0, 1.0)


@pytest.mark.parametrize(
    ("better", "worse", "p"),
    [(0, 0, 1.0), (1, 1, 1.0), (3, 2, 1.0), (5, 0, 0.0625), (0, 5, 0.0625), (9, 1, 22 / 1024), (10, 0, 2 / 1024)],
)
def test_the_sign_test_is_exact_and_two_sided(better: int, worse: int, p: float) -> None:
    assert sign_test(better, worse) == pytest.approx(p)


def test_figures_leave_out_what_cannot_be_told_and_say_how_much() -> None:
    french = Judgement(Verdict.FRENCH, Verdict.FRENCH, None, 80)
    drift = Judgement(Verdict.FRENCH, Verdict.FOREIGN, 40, 100)
    english = Judgement(Verdict.FOREIGN, Verdict.FOREIGN, 0, 120)
    short = Judgement(Verdict.UNDECIDED, Verdict.UNDECIDED, None, 4)
    assert figures([french, drift, english, short]) == Figures(Rate(2, 3), Rate(1, 3), 1, 20, 90)
    assert figures([short]) == Figures(Rate(0, 0), Rate(0, 0), 1, None, 4)
