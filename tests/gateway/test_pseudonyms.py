import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.guardrails.personal import KINDS, find
from gateway.guardrails.pseudonyms import MASKS, Pseudonyms, Restorer, mask
from tests.gateway.cutting import cut

VALUES = {"TEL1": "07 48 12 09 35", "TEL12": "04 78 12 09 35", "EMAIL1": "zoe@exemple.fr", "NOM1": "Roussel [NOM_1]"}


def streamed(pieces: list[str], values: dict[str, str] = VALUES) -> str:
    restorer = Restorer(values)
    return "".join(map(restorer.feed, pieces)) + restorer.finish()


def test_masking_leaves_everything_but_the_data() -> None:
    text = "Mme Roussel (zoe@exemple.fr) habite 9 rue du Four, tél. 07 48 12 09 35."
    assert mask(text, find(text)) == "Mme [NOM] ([COURRIEL]) habite [ADRESSE], tél. [TÉLÉPHONE]."
    assert mask("Rien ici.", []) == "Rien ici."


def test_every_kind_has_a_mask() -> None:
    assert set(MASKS) == set(KINDS)


def test_a_value_has_one_placeholder_in_all_texts_of_a_request_whatever_its_spacing() -> None:
    names = Pseudonyms()
    assert names.hide("Appelez 07 48 12 09 35 ou 04 78 12 09 35.") == "Appelez [TEL_1] ou [TEL_2]."
    assert names.hide("Le 0748120935 ! Le +33 (0)7.48.12.09.35 !") == "Le [TEL_1] ! Le [TEL_1] !"
    assert names.hide("ZOE@exemple.fr, zoe@exemple.fr") == "[EMAIL_1], [EMAIL_1]"
    assert names.restore("[TEL_2], [TEL_1], [EMAIL_1], [EMAIL_2]") == (
        "04 78 12 09 35, 07 48 12 09 35, ZOE@exemple.fr, [EMAIL_2]"
    )


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("né le 1/11/2001", "né le 11/1/2001"),
        ("connexion depuis 91.12.0.1", "connexion depuis 91.1.20.1"),
        ("a.bc@exemple.fr", "ab.c@exemple.fr"),
    ],
)
def test_values_that_differ_only_in_their_separators_stay_apart_where_separators_count(one: str, other: str) -> None:
    names = Pseudonyms()
    first, second = names.hide(one), names.hide(other)
    assert first != second
    assert (names.restore(first), names.restore(second)) == (one, other)


@pytest.mark.parametrize("lookalike", ["[TEL_1]", "[tel 1]", r"\[TEL\_1\]", "[ TEL_2 ]"])
def test_a_placeholder_in_the_users_own_text_never_becomes_another_value(lookalike: str) -> None:
    names = Pseudonyms()
    hidden = [names.hide("Mon numéro : 07 48 12 09 35"), names.hide(f"Que veut dire {lookalike} ?")]
    assert names.restore(hidden[1]) == f"Que veut dire {lookalike} ?"
    assert (
        "".join(names.restorer().feed(text) for text in hidden)
        == f"Mon numéro : 07 48 12 09 35Que veut dire {lookalike} ?"
    )


@pytest.mark.parametrize(
    "altered",
    [
        "[TEL_1]",
        "[tel_1]",
        "[Tel_1]",
        "[TEL 1]",
        "[TEL-1]",
        "[TEL1]",
        "[ TEL_1 ]",
        r"[TEL\_1]",
        r"\[TEL_1\]",
        r"\[TEL\_1\]",
    ],
)
def test_a_placeholder_that_comes_back_altered_is_known(altered: str) -> None:
    assert streamed([f"Le {altered}."]) == "Le 07 48 12 09 35."
    assert streamed(list(f"Le {altered}.")) == "Le 07 48 12 09 35."


@pytest.mark.parametrize(
    "other", ["[TEL_2]", "[TEL_01]", "[TEL_1", "TEL_1]", "[TEL  1]", "[TELS_1]", "[1]", "[TEL_1)", "[NIR_1]"]
)
def test_what_was_not_given_out_stays(other: str) -> None:
    assert streamed([other]) == other
    assert streamed(list(other)) == other


ANSWER = st.lists(
    st.sampled_from(
        ["[", "]", "\\", "_", " ", "-", *"TEL tel EMAIL NOM NIR T TE 1 12 2 0 x é [TEL_1] [nom_1]".split()]
    ),
    max_size=14,
).map("".join)


@given(ANSWER.flatmap(cut))
@example(["[x\\", "[TEL_1]"])
@example(["\\", "\\[TEL_1]"])
@example(["[TEL_1\\", "]"])
@example(["[TEL_1", "2]"])
def test_where_the_stream_is_cut_does_not_matter(pieces: list[str]) -> None:
    assert streamed(pieces) == streamed(["".join(pieces)])


@given(st.text().flatmap(cut))
def test_without_values_everything_passes_at_once(pieces: list[str]) -> None:
    restorer = Restorer({})
    assert [restorer.feed(piece) for piece in pieces] == pieces
    assert restorer.finish() == ""


def test_only_the_possible_beginning_of_a_placeholder_is_held_back() -> None:
    restorer = Restorer(VALUES)
    assert restorer.feed("Un tableau t[0] et [") == "Un tableau t[0] et "
    assert restorer.feed("lien](url) puis [T") == "[lien](url) puis "
    assert restorer.feed("EL_") == ""
    assert restorer.feed("3") == "[TEL_3"
    assert restorer.feed("] [TEL_1") == "] "
    assert restorer.feed("] fin [TEXTE") == "07 48 12 09 35 fin [TEXTE"
    assert restorer.feed(" [NIR") == " [NIR"
    assert restorer.feed(" [NIR_") == " [NIR_"
    assert restorer.feed(" [TE_") == " [TE_"
    assert restorer.feed(" [EMAIL_1") == " "
    assert restorer.finish() == "[EMAIL_1"


def test_a_number_that_could_only_have_gone_on_is_given_back_when_it_ends() -> None:
    restorer = Restorer({"TEL12": "07 48 12 09 35"})
    assert restorer.feed("[TEL_1") == ""
    assert restorer.feed(" ") == "[TEL_1 "
    assert restorer.feed("[TEL_") == ""
    assert restorer.feed("12]") == "07 48 12 09 35"


def test_the_hold_is_bounded() -> None:
    restorer = Restorer(VALUES)
    text = "[TEL_1 " + " " * 100 + "[" * 100 + "\\" * 100
    given_back = sum(len(restorer.feed(character)) for character in text)
    assert len(text) - given_back <= 26


def test_a_value_is_escaped_for_what_it_stands_in() -> None:
    names = Pseudonyms()
    hidden = names.hide("habite 9 rue du Four\n35000 Rennes")
    restorer = names.restorer(escape=lambda value: json.dumps(value, ensure_ascii=False)[1:-1])
    arguments = restorer.feed(json.dumps({"adresse": hidden})) + restorer.finish()
    assert json.loads(arguments) == {"adresse": "habite 9 rue du Four\n35000 Rennes"}


PARTS = st.sampled_from(
    [
        *"07 48 12 09 35|zoe@exemple.fr|M. Roussel|[TEL_1]|[EMAIL_1]|[nom 2]|né le 1/2/1990|\\|[|]| |, |\n|9 rue du Four".split(
            "|"
        )
    ]
)
TEXTS = st.lists(st.lists(PARTS | st.text(max_size=3), max_size=6).map(" ".join), max_size=4)


@given(TEXTS)
def test_what_is_hidden_comes_back_but_for_its_spacing(texts: list[str]) -> None:
    names = Pseudonyms()
    hidden = [names.hide(text) for text in texts]
    for text, placeheld in zip(texts, hidden, strict=True):
        assert "".join(names.restore(placeheld).split()).casefold() == "".join(text.split()).casefold()


def test_nothing_that_prints_shows_a_value() -> None:
    names = Pseudonyms()
    names.hide("07 48 12 09 35")
    assert len(names) == 1
    for thing in (names, names.restorer(), find("07 48 12 09 35")):
        assert "48" not in repr(thing)
