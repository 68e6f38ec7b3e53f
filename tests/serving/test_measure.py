"""The measuring script judges a language as the gateway's guard does, and counts what it judged."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.guardrails import language as original
from gateway.guardrails.language import Detector, Verdict
from serving import language as copy
from serving import measure
from serving.measure import Answer, Judge, read_questions, table

GUARD = Detector()
JUDGE = Judge()

FRENCH = "Votre avis est lu par les équipes concernées dans la semaine qui suit son envoi."
ENGLISH = "Your feedback is read by the teams in charge within the week after you have sent it."

# Pieces that the guard sets aside, abstains on or takes as they are, in every order.
PIECES = st.lists(
    st.sampled_from(
        [
            FRENCH, ENGLISH, "Oui.", "Paris", "\n", "- un deux", "`def f(): return 1`",
            "https://example.org/avis?page=2", "nom@example.org", "« Nouvel avis »", "“quoted words”", '"words"', "$x + y$",
            "\\(a\\)", "<b>", "\x00", "Спасибо за ваш отзыв, мы", "आपकी प्रतिक्रिया के लिए धन्यवाद",
            "感谢您的反馈，我们会尽快回复您的问题和建议", "🙂" * 30, "1234567890 " * 9,
        ]
    )
    | st.text(max_size=120),
    max_size=8,
)  # fmt: skip


def verdict(language: str) -> Verdict:
    return {"fr": Verdict.FRENCH, "short": Verdict.UNDECIDED}.get(language, Verdict.FOREIGN)


def test_the_copy_of_the_guards_judgement_is_the_guards() -> None:
    assert Path(copy.__file__).read_text("utf-8") == Path(original.__file__).read_text("utf-8")


@given(PIECES)
def test_the_verdict_is_the_guards(pieces: list[str]) -> None:
    text = " ".join(pieces)
    assert verdict(JUDGE.language_of(text)) is GUARD.judge(text)


@pytest.mark.parametrize(
    ("text", "language"),
    [(FRENCH, "fr"), (ENGLISH, "en"), (f"{FRENCH} {ENGLISH}", "en"), ("Paris.", "short"), ("", "short")],
)
def test_one_foreign_window_makes_an_answer_foreign(text: str, language: str) -> None:
    assert JUDGE.language_of(text) == language


def test_there_are_thirty_different_questions_in_french() -> None:
    questions = read_questions()
    assert len(set(questions)) == 30
    assert "fr" in {JUDGE.language_of(question) for question in questions}
    assert {JUDGE.language_of(question) for question in questions} <= {"fr", "short"}


def test_the_table_counts_each_answer_once() -> None:
    languages = ["fr", "fr", "en", "it", "short"]
    answers = [Answer("?", "x" * 10, 20, 2.0, "stop", language) for language in languages]
    answers[0] = Answer("?", "x" * 10, 20, 2.0, "length", "fr")
    row = table("m", answers, 75.4).splitlines()[-1]
    assert row == "| m | 40 % | 20 % | 20 % | 20 % | 1 | 10 | 75 | 10 characters |"


def test_a_server_that_is_not_there_ends_in_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert measure.main(["--base-url", "http://127.0.0.1:1/v1", "--model", "m"]) == 1
    assert capsys.readouterr().err.startswith("passerelle: http://127.0.0.1:1/v1: ")
