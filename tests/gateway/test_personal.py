from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stdnum import luhn
from stdnum.fr import siret

from gateway.guardrails.personal import KINDS, Found, find
from gateway.guardrails.personal.numbers import luhn as quick_luhn
from tests.gateway.invented import (
    ACCOUNT,
    AMEX,
    BANK,
    BBAN,
    BRANCH,
    CARD,
    COMPANY,
    CORSICAN,
    ESTABLISHMENT,
    FRENCH,
    GERMAN,
    KEY,
    NIR,
    VAT,
    seen,
    spaced,
)


@pytest.mark.parametrize(
    "value",
    [
        NIR,
        CORSICAN,
        CORSICAN.lower(),
        spaced(NIR, 1, 2, 2, 2, 3, 3, 2),
        spaced(NIR, 1, 2, 2, 2, 3, 3, 2, by="\u00a0"),
        spaced(NIR, 1, 2, 2, 2, 3, 3, 2, by="."),
        spaced(NIR, 1, 2, 2, 2, 3, 3, 2, by="\u2011"),
        spaced(CORSICAN, 1, 2, 2, 2, 3, 3, 2, by="\u202f"),
        spaced(NIR, 7, 6, 2),
        spaced(NIR, 13, 2, by=" / "),
        spaced(NIR, 13, 2, by=" clé "),
        "".join(chr(ord(digit) - ord("0") + ord("０")) for digit in NIR),
    ],
)
def test_a_social_security_number_needs_no_context_when_its_key_agrees(value: str) -> None:
    assert seen(f"Voici : {value}, merci.") == [("NIR", value)]


def test_a_social_security_number_with_a_wrong_key_is_none() -> None:
    wrong = NIR[:13] + f"{int(NIR[13:]) % 97 + 1:02d}"
    assert seen(f"sécurité sociale {wrong}") == []
    assert seen(f"sécurité sociale {CORSICAN[:13]}{int(CORSICAN[13:]) % 97 + 1:02d}") == []


def test_a_social_security_number_without_its_key_needs_a_word_beside_it() -> None:
    assert seen(f"mon numéro de sécu : {NIR[:13]}") == [("NIR", NIR[:13])]
    assert seen(f"horodatage {NIR[:13]}") == []


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("SIRET", "{}", ESTABLISHMENT),
        ("SIRET", "{}", spaced(ESTABLISHMENT, 3, 3, 3, 5)),
        ("SIRET", "{}", spaced(ESTABLISHMENT, 9, 5)),
        ("SIRET", "notre siret est {}", spaced(ESTABLISHMENT, 2, 4, 4, 4)),
        ("SIRET", "siège : {}", "35600000000048"),
        ("SIRET", "siret {}", "356 000 000 00092"),
        ("SIREN", "RCS Lyon {}", spaced(COMPANY, 3, 3, 3)),
        ("SIREN", "{} RCS Lyon", spaced(COMPANY, 3, 3, 3, by=".")),
        ("SIREN", "n° SIREN : {}", COMPANY),
        ("TVA", "{}", VAT),
        ("TVA", "TVA {}", VAT.lower()),
        ("TVA", "n° {}", "FR " + spaced(VAT[2:], 2, 3, 3, 3)),
        ("IBAN", "{}", FRENCH),
        ("IBAN", "{}", FRENCH.lower()),
        ("IBAN", "virement sur {}", spaced(FRENCH, 4, 4, 4, 4, 4, 4, 3)),
        ("IBAN", "virement sur {}", spaced(FRENCH, 4, 4, 4, 4, 4, 4, 3, by="\u202f")),
        ("IBAN", "virement sur {}", spaced(FRENCH, 2, 2, 5, 5, 11, 2, by="-")),
        ("IBAN", "compte {}", spaced(GERMAN, 4, 4, 4, 4, 4, 2)),
        ("RIB", "{}", spaced(BBAN, 5, 5, 11, 2)),
        ("RIB", "mon RIB : {}", BBAN),
        ("CARTE", "{}", CARD),
        ("CARTE", "{}", spaced(CARD, 4, 4, 4, 4)),
        ("CARTE", "{}", spaced(CARD, 4, 4, 4, 4, by="-")),
        ("CARTE", "amex {}", spaced(AMEX, 4, 6, 5)),
    ],
)
def test_a_number_with_check_digits_is_found_in_its_layouts(kind: str, text: str, value: str) -> None:
    assert seen(text.format(value)) == [(kind, value)]
    assert seen("Bonjour, " + text.format(value) + ". Merci") == [(kind, value)]


def test_a_bank_account_is_found_with_its_parts_named() -> None:
    text = f"Banque {BANK} Guichet {BRANCH} Compte {ACCOUNT} Clé {KEY}"
    assert [found.kind for found in find(text)] == ["RIB"]


def test_a_bank_account_with_a_wrong_key_is_none() -> None:
    assert seen(f"RIB {BANK} {BRANCH} {ACCOUNT} {int(KEY) % 97 + 1:02d}") == []


def test_a_number_may_begin_inside_what_is_none() -> None:
    assert seen(f"carte 4 {spaced(CARD, 4, 4, 4, 4)}") == [("CARTE", spaced(CARD, 4, 4, 4, 4))]


def test_a_telephone_number_abroad_is_no_company() -> None:
    assert seen(f"RCS Lyon, tél. +33 {COMPANY}") == [("TEL", f"+33 {COMPANY}")]


@pytest.mark.parametrize("number", [COMPANY, ESTABLISHMENT, CARD, AMEX, FRENCH, GERMAN, VAT])
def test_a_digit_changed_makes_it_no_such_number(number: str) -> None:
    changed = number[:-1] + str((int(number[-1]) + 1) % 10)
    assert seen(f"siren siret carte compte tva {changed}") == []


@given(st.text("0123456789", min_size=1, max_size=20))
def test_the_quick_check_digit_is_that_of_stdnum(digits: str) -> None:
    assert quick_luhn(digits) == luhn.is_valid(digits)


def test_the_post_office_numbers_its_branches_by_a_rule_of_its_own() -> None:
    assert siret.is_valid("35600000000092")
    assert not luhn.is_valid("35600000000092")


def test_nine_digits_are_a_company_only_beside_a_word_that_says_so() -> None:
    number = spaced(COMPANY, 3, 3, 3)
    assert seen(f"Nous comptons {number} visites.") == []
    assert seen(f"SARL au chiffre d'affaires de {number} €") == []


@pytest.mark.parametrize(
    "value",
    [
        "0748120935",
        "07 48 12 09 35",
        "07.48.12.09.35",
        "07-48-12-09-35",
        "07/48/12/09/35",
        "07\u00a048\u00a012\u00a009\u00a035",
        "07\u202f48\u202f12\u202f09\u202f35",
        "07\u201148\u201112\u201109\u201135",
        "0748 12 09 35",
        "07 4812 0935",
        "07 48 120 935",
        "0 748 120 935",
        "04 78 12 09 35",
        "+33748120935",
        "+33 7 48 12 09 35",
        "+33 (0)7 48 12 09 35",
        "+33(0)748120935",
        "+33.7.48.12.09.35",
        "(+33) 7 48 12 09 35",
        "0033748120935",
        "0033 7 48 12 09 35",
        "(0033) 7 48 12 09 35",
        "+262 692 48 12 09",
        "+590 690 48 12 09",
        "+594 694 48 12 09",
        "+596 696 48 12 09",
        "+41 79 481 20 93",
        "+44 20 7946 0935",
        "+1 (415) 555-0935",
        "０７ ４８ １２ ０９ ３５",
    ],
)
def test_a_telephone_number_is_found_in_its_layouts(value: str) -> None:
    assert seen(f"Joignable au {value}, le soir.") == [("TEL", value)]
    assert seen(f"tél.:{value}.") == [("TEL", value)]
    assert seen(value) == [("TEL", value)]


@pytest.mark.parametrize("between", [" ou ", " / ", "/", ", ", "\n"])
def test_two_telephone_numbers_are_two(between: str) -> None:
    assert [kind for kind, _ in seen(f"07 48 12 09 35{between}04 78 12 09 35")] == ["TEL", "TEL"]


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("EMAIL", "Mon adresse : {}.", "zoe.petit+factures@courrier-exemple.fr"),
        ("EMAIL", "<{}>", "Z_P@EXEMPLE.ORG"),
        ("EMAIL", "mailto:{}", "contact@sous.domaine.exemple.bzh"),
        ("EMAIL", "écrire à {}", "zoe.petit[at]exemple.fr"),
        ("EMAIL", "écrire à {}", "zoe.petit (arobase) exemple.fr"),
        ("EMAIL", "écrire à {}", "zoe point petit arobase exemple point fr"),
        ("EMAIL", "écrire à {}", "zoe [at] exemple [point] com"),
        ("PLAQUE", "vu {} hier", "GT-457-KL"),
        ("PLAQUE", "ma voiture, {}, est rayée", "gt-457-kl"),
        ("PLAQUE", "véhicule immatriculé {}", "GT 457 KL"),
        ("PLAQUE", "plaque {}", "GT457KL"),
        ("PLAQUE", "carte grise {}", "457 AKL 69"),
        ("PLAQUE", "immatriculation {}", "4571 KL 2B"),
        ("PASSEPORT", "passeport n° {}", "17FV29305"),
        ("PASSEPORT", "Mon passeport porte le numéro {}.", "17 FV 29305"),
        ("CNI", "carte nationale d’identité {}", "180569301274"),
        ("CNI", "CNI {}", "1805 6930 1274"),
        ("CNI", "ma carte d'identité ({})", "K7RT2HZX4"),
        ("IP", "connecté depuis {}", "82.64.12.205"),
        ("IP", "poste {}", "192.168.7.31"),
        ("IP", "{} a été bloquée", "2a02:842b:61d:9a01::17"),
        ("DATE_NAISSANCE", "né le {}", "12/03/85"),
        ("DATE_NAISSANCE", "Née à Lyon le {}", "1er avril 1990"),
        ("DATE_NAISSANCE", "nés le {}", "12.03.1985"),
        ("DATE_NAISSANCE", "né(e) le : {}", "12-03-1985"),
        ("DATE_NAISSANCE", "Date de naissance : {}", "12 03 1985"),
        ("DATE_NAISSANCE", "date de naissance (jj/mm/aaaa) : {}", "12/03/1985"),
        ("DATE_NAISSANCE", "naissance : {}", "12 février 1985"),
        ("DATE_NAISSANCE", "DDN {}", "1985-03-12"),
        ("PERSONNE", "M. {} attend", "Roussel"),
        ("PERSONNE", "Mme {}, merci", "Anne-Lise DUBREUIL"),
        ("PERSONNE", "le Dr {} consulte", "Le Goff"),
        ("PERSONNE", "Me {}, avocate", "d'Ormesson-Lacaze"),
        ("PERSONNE", "monsieur {} est venu", "Karim El Fassi"),
        ("PERSONNE", "M. et Mme {}.", "Roussel"),
        ("PERSONNE", "je m’appelle {} et", "Ines Carvalho"),
        ("PERSONNE", "je m'appelle {}", "ines"),
        ("PERSONNE", "Cordialement,\n{}", "Ines Carvalho"),
        ("PERSONNE", "Ma collègue {} est absente", "Solène"),
    ],
)
def test_other_data_is_found_with_the_words_that_belong_to_it(kind: str, text: str, value: str) -> None:
    assert seen(text.format(value)) == [(kind, value)]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("J'habite {}.", "23 rue des Tilleuls, 44000 Nantes"),
        ("livrer au {} svp", "23bis, av. du Général-Leclerc 69100 VILLEURBANNE"),
        ("au {} demain", "9 impasse du Four"),
        ("{}", "41 RUE VICTOR HUGO 69002 LYON CEDEX 02"),
        ("c'est {}", "3 rue du 8 mai 1945, 59100 Roubaix"),
        ("{}", "18 rue des lilas 44000 nantes"),
        ("au {}", "18 rue des lilas"),
        ("habite {}", "1 place de la Mairie"),
        ("domicilié {}", "8 cours Mirabeau"),
        ("{}", "8 cours Mirabeau 13100 Aix-en-Provence"),
        ("{}", "33 bd de l’Hôpital, bât. C, 2e étage, 75013 Paris"),
        ("{}", "4 lotissement Les Acacias, 83300 Draguignan"),
        ("{}", "Résidence Les Pins, 13008 Marseille"),
        ("{}", "lieu-dit Les Granges 24200 Sarlat-la-Canéda"),
        ("{}", "BP 123, 44000 Nantes"),
        ("vit {}", "12 rue de la Paix à Paris"),
    ],
)
def test_an_address_is_found_down_to_the_town(text: str, value: str) -> None:
    assert seen(text.format(value)) == [("ADRESSE", value)]


def test_several_data_in_one_text_are_found_in_order() -> None:
    text = f"Mme Roussel, 9 impasse du Four, 35000 Rennes, tél. 07 48 12 09 35, {FRENCH}, zoe@exemple.fr"
    assert [kind for kind, _ in seen(text)] == ["PERSONNE", "ADRESSE", "TEL", "IBAN", "EMAIL"]


def test_a_find_shows_nothing_of_the_text() -> None:
    assert repr(find("zoe@exemple.fr")) == "[Found(kind='EMAIL', start=0, end=14)]"


PIECES = st.sampled_from(
    [
        *(NIR, ESTABLISHMENT, VAT, FRENCH, CARD, "07 48 12 09 35", "zoe@exemple.fr", "9 rue du Four", "82.64.12.205"),
        *(
            "M. Roussel",
            "né le 12/03/1985",
            "SIREN",
            "passeport",
            " ",
            "\u00a0",
            ", ",
            "12",
            "rue",
            "+33",
            "\u2011",
            "é",
        ),
    ]
)


@given(st.lists(PIECES | st.text(max_size=4), max_size=12).map("".join))
def test_finds_are_in_order_inside_the_text_and_apart(text: str) -> None:
    found = find(text)
    assert all(0 <= one.start < one.end <= len(text) and one.kind in KINDS for one in found)
    assert all(one.end <= other.start for one, other in pairwise(found))


@given(st.text("abcdeéèàl'’ ,.?\n", max_size=80))
def test_a_text_without_digits_capitals_and_signs_holds_nothing(text: str) -> None:
    assert find(text) == []


@given(st.integers(0, 40), st.integers(0, 40), st.sampled_from([NIR, FRENCH, "07 48 12 09 35", "zoe@exemple.fr"]))
def test_where_it_stands_in_a_text_does_not_matter(before: int, after: int, value: str) -> None:
    text = "mot " * before + value + " mot" * after
    [found] = find(text)
    assert found == Found(found.kind, 4 * before, 4 * before + len(value))
