import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.guardrails import sentences
from tests.gateway.cutting import cut

FAR = 10_000
TEXT = st.text(st.sampled_from("aé .!?…\n\u00a0«»\"')*1M"), max_size=120)


def split(text: str, limit: int = FAR) -> list[str]:
    """The sentences of a whole text, the last one perhaps incomplete."""
    found, start = [], 0
    while (stop := sentences.end(text, start, limit)) is not None:
        found.append(text[start:stop])
        start = stop
    return [*found, text[start:]] if text[start:] else found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("Oui. Non.", ["Oui.", " Non."], id="full stop"),
        pytest.param("Vraiment ?! Oui !", ["Vraiment ?!", " Oui !"], id="marks together"),
        pytest.param("Bon... On verra… Plus tard", ["Bon...", " On verra…", " Plus tard"], id="ellipses"),
        pytest.param("Un\nDeux\n\nTrois", ["Un\n", "Deux\n", "\n", "Trois"], id="line breaks"),
        pytest.param("Il dit « Oui. » Puis rien.", ["Il dit « Oui. »", " Puis rien."], id="guillemet after a space"),
        pytest.param("Il dit «\u202fOui !\u202f» Puis", ["Il dit «\u202fOui !\u202f»", " Puis"], id="narrow spaces"),
        pytest.param('Il dit "Oui." Puis', ['Il dit "Oui."', " Puis"], id="straight quotes"),
        pytest.param("**Attention !** Lisez", ["**Attention !**", " Lisez"], id="bold"),
        pytest.param("(Voir plus bas.) Ensuite", ["(Voir plus bas.)", " Ensuite"], id="brackets"),
        pytest.param("M. Petit et Mme. Roy sont là. Bien", ["M. Petit et Mme.", " Roy sont là.", " Bien"], id="titles"),
        pytest.param("Voir art. 12 et p. 3. Merci", ["Voir art. 12 et p. 3.", " Merci"], id="abbreviations"),
        pytest.param("Notre tél. est le 01. Merci", ["Notre tél. est le 01.", " Merci"], id="abbreviation, number"),
        pytest.param("J. R. Martin écrit. Oui", ["J. R. Martin écrit.", " Oui"], id="initials"),
        pytest.param("1. Ouvrez\n2. Fermez", ["1. Ouvrez\n", "2. Fermez"], id="numbered list"),
        pytest.param("C'était en 1998. Depuis", ["C'était en 1998.", " Depuis"], id="a year ends a sentence"),
        pytest.param("Il coûte 3.50 euros. Cher", ["Il coûte 3.50 euros.", " Cher"], id="decimal point"),
        pytest.param("Allez sur exemple.fr ou ici", ["Allez sur exemple.fr ou ici"], id="domain name"),
        pytest.param("Sans fin", ["Sans fin"], id="incomplete"),
        pytest.param("", [], id="nothing"),
    ],
)
def test_a_text_has_the_sentences_a_reader_sees(text: str, expected: list[str]) -> None:
    assert split(text) == expected


def test_a_full_stop_alone_does_not_end_a_sentence_before_what_follows_is_known() -> None:
    assert sentences.end("La version 3.", 0, FAR) is None
    assert sentences.end("Elle dit : « Oui. ", 0, FAR) is None
    assert sentences.end("Elle dit oui. ", 0, FAR) == 13


@given(TEXT, st.integers(1, 40))
def test_no_more_than_the_limit_is_ever_held_back(text: str, limit: int) -> None:
    start = 0
    while (stop := sentences.end(text, start, limit)) is not None:
        assert start < stop <= start + limit
        start = stop
    assert len(text) - start <= limit


def test_a_sentence_over_the_limit_is_cut_between_words() -> None:
    assert split("un deux trois quatre", 10) == ["un deux ", "trois ", "quatre"]
    assert split("anticonstitutionnellement", 10) == ["anticonsti", "tutionnell", "ement"]


@given(TEXT.flatmap(cut))
def test_where_sentences_end_does_not_depend_on_how_the_text_arrives(pieces: list[str]) -> None:
    arrived, start, found = "", 0, []
    for piece in pieces:
        arrived += piece
        while (stop := sentences.end(arrived, start, FAR)) is not None:
            found.append(arrived[start:stop])
            start = stop
    assert found + ([arrived[start:]] if arrived[start:] else []) == split(arrived)
