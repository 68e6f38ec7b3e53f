import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.guardrails.gate import ForbiddenTerm, TermsStage
from gateway.guardrails.terms import Terms
from tests.gateway.cutting import cut

TERMS = Terms(["arme", "mot interdit", "Straße", "été", "c++", "ậ"])
INVISIBLE = ["\u200b", "\u200d", "\u00ad", "\ufeff", "\u2060", "\u034f", "\ufe0f"]


def outcome(pieces: list[str], terms: Terms = TERMS) -> tuple[str, bool]:
    """What a stage lets out of a text that arrives in pieces, and whether it stopped it."""
    stage, released = TermsStage(terms, enforce=True), ""
    try:
        for piece in pieces:
            released += stage.feed(piece)
        return released + stage.finish(), False
    except ForbiddenTerm:
        return released, True


@pytest.mark.parametrize(
    "text",
    [
        "Une arme ici",
        "ARME",
        "l'arme",
        "l’arme.",
        "«arme»",
        "_arme_",
        "**arme**",
        "port d'arme/objet",
        "\uff41\uff52\uff4d\uff45",
        "ar\u00adme",
        "ar\u200bme",
        "a\u034frme",
        "a\ufe0frme",
        "\u200barme\u200b",
        "un mot interdit là",
        "un mot  interdit",
        "un mot\ninterdit",
        "un mot\u00a0interdit",
        "un Mot\u2003\u200bINTERDIT",
        "die Strasse",
        "die STRASSE",
        "ÉTÉ",
        "e\u0301te\u0301",
        "E\u0301TÉ",
        "du c++, oui",
        "un ậ",
        "un a\u0302\u0323",
        "un a\u0323\u0302",
    ],
)
def test_a_term_is_found_whatever_its_disguise(text: str) -> None:
    assert TERMS.found(text)
    assert outcome([text])[1]
    assert outcome(list(text))[1]


@pytest.mark.parametrize(
    "text",
    [
        "alarme",
        "armée",
        "armé",
        "arme\u0301",
        "armes",
        "arme2",
        "al\u00adarme",
        "al\u200barme",
        "arme\u00ade",
        "un mot",
        "mot-interdit",
        "motinterdit",
        "étés",
        "ete",
        "c+",
        "ạ",
        "",
        " ",
    ],
)
def test_a_term_is_not_found_inside_another_word(text: str) -> None:
    assert not TERMS.found(text)
    assert outcome([text]) == (text, False)
    assert outcome(list(text)) == (text, False)


TEXT = st.lists(
    st.sampled_from(
        [
            *"arme ARME al mot interdit été e\u0301 a \u0302 \u0323 c + ß ss stra e _ ' 1".split(),
            " ",
            "  ",
            "\n",
            *INVISIBLE,
        ]
    ),
    max_size=10,
).map("".join)


@given(TEXT.flatmap(cut))
@example(["al\u00ad", "arme rouge"])
@example(["mot", " ", " ", "interdit"])
@example(["a", "\u0302", "\u0323"])
@example(["c++a"])
def test_the_verdict_on_a_text_does_not_depend_on_how_it_arrives(pieces: list[str]) -> None:
    text = "".join(pieces)
    released, stopped = outcome(pieces)
    assert stopped == TERMS.found(text)
    assert text.startswith(released)
    assert stopped or released == text


@given(TEXT.flatmap(cut))
def test_what_was_let_out_before_a_stop_holds_no_term(pieces: list[str]) -> None:
    released, stopped = outcome(pieces)
    assert not TERMS.found(released + ("x" if stopped else ""))


@given(TEXT, st.sampled_from(["NFC", "NFD", "NFKC", "NFKD"]))
def test_the_form_of_the_characters_does_not_matter(text: str, form: str) -> None:
    same = unicodedata.normalize("NFKC", text)
    assert TERMS.found(unicodedata.normalize(form, same)) == TERMS.found(same)  # type: ignore[arg-type]


@given(TEXT.flatmap(cut))
def test_an_empty_list_forbids_and_holds_nothing(pieces: list[str]) -> None:
    stage = TermsStage(Terms([]), enforce=True)
    assert [stage.feed(piece) for piece in pieces] == pieces
    assert not Terms(["", " ", "\u200b"])


def test_only_the_possible_beginning_of_a_term_is_held_back() -> None:
    stage = TermsStage(TERMS, enforce=True)
    assert stage.feed("Bonjour, un m") == "Bonjour, un "
    assert stage.feed("ot") == ""
    assert stage.feed(" gentil et ") == "mot gentil et "
    assert stage.feed("alarm") == "alarm"
    assert stage.feed("arme") == "arme"
    assert stage.finish() == ""


def test_annotate_lets_everything_out_at_once_and_counts() -> None:
    stage = TermsStage(TERMS, enforce=False)
    pieces = ["Une a", "rme, deux ", "ARMES, un mot inter", "dit"]
    assert [*map(stage.feed, pieces), stage.finish()] == [*pieces, ""]
    assert stage.found == 2
