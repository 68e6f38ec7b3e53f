import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.guardrails import sentences
from tests.gateway.cutting import cut

FAR = 10_000
TEXT = st.text(st.sampled_from("aé .!?…\n\u00a0«»“”\"')*1M`$\\[]>"), max_size=120)


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
        pytest.param("M. Petit et Mme. Roy sont là. Bien", ["M. Petit et Mme. Roy sont là.", " Bien"], id="titles"),
        pytest.param("Voir art. 12 et p. 3. Merci", ["Voir art. 12 et p. 3.", " Merci"], id="abbreviations"),
        pytest.param("Notre tél. est le 01. Merci", ["Notre tél. est le 01.", " Merci"], id="abbreviation, number"),
        pytest.param("J. R. Martin écrit. Oui", ["J. R. Martin écrit.", " Oui"], id="initials"),
        pytest.param("1. Ouvrez\n2. Fermez", ["1. Ouvrez\n", "2. Fermez"], id="numbered list"),
        pytest.param("C'était en 1998. Depuis", ["C'était en 1998.", " Depuis"], id="a year ends a sentence"),
        pytest.param("Il coûte 3.50 euros. Cher", ["Il coûte 3.50 euros.", " Cher"], id="decimal point"),
        pytest.param("Allez sur exemple.fr ou ici", ["Allez sur exemple.fr ou ici"], id="domain name"),
        pytest.param("En 52 av. J.-C. environ. Puis", ["En 52 av. J.-C. environ.", " Puis"], id="before Christ"),
        pytest.param("Un lien, c.-à-d. une URL. Oui", ["Un lien, c.-à-d. une URL.", " Oui"], id="c.-à-d."),
        pytest.param("Un fruit, p. ex. une poire. Oui", ["Un fruit, p. ex. une poire.", " Oui"], id="p. ex."),
        pytest.param("Écrivez S.V.P. au n° 12. Oui", ["Écrivez S.V.P. au n° 12.", " Oui"], id="S.V.P. and n°"),
        pytest.param("Environ 1.000 ou 12,5. Oui", ["Environ 1.000 ou 12,5.", " Oui"], id="numbers"),
        pytest.param(
            "2.1. Ouvrez\nIV. Fermez\na) Non", ["2.1. Ouvrez\n", "IV. Fermez\n", "a) Non"], id="numbered parts"
        ),
        pytest.param("Voir https://a.fr/b.html?c=d. Oui", ["Voir https://a.fr/b.html?c=d.", " Oui"], id="address"),
        pytest.param(
            "Il dit « Non. Pas là. » Puis", ["Il dit « Non. Pas là. »", " Puis"], id="sentences in a quotation"
        ),
        pytest.param(
            "Il dit “No. Go.” Puis. Oui", ["Il dit “No. Go.”", " Puis.", " Oui"], id="sentences in English quotes"
        ),
        pytest.param('Il dit "No. Go." Puis', ['Il dit "No. Go."', " Puis"], id="sentences in straight quotes"),
        pytest.param("« Un\nDeux »\nTrois", ["« Un\nDeux »\n", "Trois"], id="a quotation over lines"),
        pytest.param("« Un\n\nDeux. Trois", ["« Un\n", "\n", "Deux.", " Trois"], id="left open, then an empty line"),
        pytest.param("« Un\n```\na\n", ["« Un\n", "```\n", "a\n"], id="left open, then code"),
        pytest.param('Un "Deux. Trois\nFin. Oui', ['Un "Deux. Trois\n', "Fin.", " Oui"], id="left open, then a line"),
        pytest.param("Tapez `a. b` ici. Puis", ["Tapez `a. b` ici.", " Puis"], id="inline code"),
        pytest.param("$$\nx = 1. \ny\n$$\nDonc", ["$$\nx = 1. \ny\n$$\n", "Donc"], id="formula over lines"),
        pytest.param("\\[\nx\n\\]\nDonc", ["\\[\nx\n\\]\n", "Donc"], id="formula in brackets over lines"),
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


@given(TEXT.flatmap(cut), st.integers(1, 60))
def test_what_was_looked_at_once_need_not_be_again(pieces: list[str], limit: int) -> None:
    text, start, seen = "", 0, 0
    for piece in pieces:
        text += piece
        while (stop := sentences.whole(text, start, limit, seen)) is not None:
            assert stop == sentences.whole(text, start, limit)
            start = seen = stop
        assert sentences.whole(text, start, limit) is None
        assert (
            not sentences.settled(piece)
            or seen < len(text) - len(piece)
            or sentences.open_from(text, piece, seen) >= seen
        )
        quiet = sentences.settled(piece) and seen == len(text) - len(piece)
        seen = len(text) if quiet else max(start, sentences.open_from(text, piece, seen))


@given(TEXT.flatmap(cut))
def test_where_sentences_end_does_not_depend_on_how_the_text_arrives(pieces: list[str]) -> None:
    arrived, start, found = "", 0, []
    for piece in pieces:
        arrived += piece
        while (stop := sentences.end(arrived, start, FAR)) is not None:
            found.append(arrived[start:stop])
            start = stop
    assert found + ([arrived[start:]] if arrived[start:] else []) == split(arrived)
