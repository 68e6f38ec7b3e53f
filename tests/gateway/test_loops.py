import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.guardrails.cutting import Cutter
from gateway.guardrails.loops import Loop, LoopStage
from tests.gateway.cutting import cut

SENTENCE = "Vous pouvez suivre votre avis depuis votre espace personnel. "
OTHER = "Un courriel vous est envoyé à chaque étape du traitement. "


def through(pieces: list[str], *, enforce: bool = True) -> tuple[str, bool]:
    """What leaves of an answer, and whether it was stopped."""
    stage = LoopStage(enforce=enforce)
    gate, released = Cutter([stage], hold=400), ""
    try:
        for piece in pieces:
            released += gate.feed(piece)
        return released + gate.finish(), False
    except Loop:
        return released, True


@pytest.mark.parametrize(
    "text",
    [
        SENTENCE * 30,
        (SENTENCE + OTHER) * 30,
        "".join(f"{number}. {SENTENCE}\n" for number in range(1, 40)),
        "Bonjour. " + "oui " * 400,
        "Bonjour. " + "ha" * 700,
    ],
    ids=["a sentence", "two in turns", "numbered", "a word", "no spaces"],
)
def test_an_answer_that_repeats_itself_is_stopped_after_a_few_times(text: str) -> None:
    released, stopped = through([text[at : at + 3] for at in range(0, len(text), 3)])
    assert stopped
    assert text.startswith(released)
    assert len(released) < 700


@pytest.mark.parametrize(
    "text",
    [
        SENTENCE + OTHER,
        SENTENCE * 3,
        "1. Cliquez sur le bouton.\n2. Cliquez sur le lien.\n3. Cliquez sur Valider.\n4. Cliquez sur Fermer.\n",
        "| a | oui | non |\n|---|---|---|\n" + "| b | oui | oui |\n" * 6,
        "Non, non, non et non ! C'est non, un point c'est tout.",
        "mot " * 128,
        "-" * 500,
        "",
    ],
)
def test_refrains_lists_and_tables_are_no_loops(text: str) -> None:
    assert through([text]) == (text, False)


@given(cut(SENTENCE * 3 + OTHER * 9))
def test_that_it_is_stopped_does_not_depend_on_how_it_came(pieces: list[str]) -> None:
    released, stopped = through(pieces)
    assert stopped
    assert (SENTENCE * 3 + OTHER * 9).startswith(released)


@given(st.lists(st.text(max_size=40), max_size=8))
def test_annotate_changes_nothing(pieces: list[str]) -> None:
    assert through(pieces, enforce=False) == ("".join(pieces), False)


def test_annotate_says_what_it_saw() -> None:
    stage = LoopStage(enforce=False)
    for _ in range(9):
        stage.feed(SENTENCE)
    assert stage.finding() == "flagged"
