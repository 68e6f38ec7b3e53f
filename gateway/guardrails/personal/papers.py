"""Numbers of papers: vehicle plates, passports, identity cards. Without a check digit, most need a word beside them."""

from __future__ import annotations

import re
from collections.abc import Iterator

from gateway.guardrails.personal.found import IDENTITY_CARD, PASSPORT, PLATE, Found, bare, each, named_otherwise, near

# Arrêté of 9 February 2009: two letters, three digits, two letters, without I, O, U; neither block is SS; never 000.
_LETTERS = "A-HJ-NP-TV-Za-hj-np-tv-z"
_SIV = re.compile(
    rf"(?P<first>[{_LETTERS}](?<!\w.)(?<!\w-.)[{_LETTERS}])(?P<gap>[ -]?)(?!000)[0-9]{{3}}(?P=gap)"
    rf"(?P<last>[{_LETTERS}]{{2}})(?!\w)(?!-\w)"
)
# Before 2009: up to four digits, up to three letters, the department.
_FNI = re.compile(
    rf"[1-9](?<!\w.)[0-9]{{0,3}}+[ -]?(?!(?i:KM|CV|CM|MM|KG|CH|HP|MN|ET|AN|DE)\b)[{_LETTERS}]{{2,3}}[ -]?"
    r"(?:0[1-9]|[1-8][0-9]|9[0-5]|97[1-6]|2[ABab])(?!\w)(?![.,-]\w)"
)
_VEHICLE = re.compile(
    r"immatricul|plaque|v[ée]hicule|voiture|\bauto\b|camion|\bmoto\b|scooter|carte grise|utilitaire|fourgon|berline|"
    r"stationn|\bgar[ée]e?\b|\bgarage|parking|contravention|contr[ôo]le technique",
    re.IGNORECASE,
)
_PASSPORT = re.compile(r"[0-9](?<!\w.)[0-9] ?[A-Za-z]{2} ?[0-9]{5}(?!\w)")
_PASSPORT_WORDS = re.compile(r"passe?port", re.IGNORECASE)
_OLD_CARD = re.compile(r"[0-9](?<!\w.)(?:[ .\-]?[0-9]){11}(?!\w)(?![.,\-]?[0-9])")
_NEW_CARD = re.compile(r"[A-Z0-9](?<!\w.)[A-Z0-9]{8}(?!\w)")
_IDENTITY = re.compile(r"\bcnie?\b|d[’']identit[ée]|\bidentit[ée]\b", re.IGNORECASE)


def _is_siv(text: str, match: re.Match[str]) -> bool:
    if "SS" in (match.group("first").upper(), match.group("last").upper()):
        return False
    if match.group("gap") == "-" and match.group().isupper():
        return not named_otherwise(text, match.start())
    return near(_VEHICLE, text, *match.span())


def _is_fni(text: str, match: re.Match[str]) -> bool:
    return near(_VEHICLE, text, *match.span(), before=45, after=20)


def _is_passport(text: str, match: re.Match[str]) -> bool:
    return near(_PASSPORT_WORDS, text, *match.span())


def _is_card(text: str, match: re.Match[str]) -> bool:
    return len(set(bare(match.group()))) > 1 and near(_IDENTITY, text, *match.span())


def _is_new_card(text: str, match: re.Match[str]) -> bool:
    value = match.group()
    return not value.isdigit() and not value.isalpha() and _is_card(text, match)


def search(text: str) -> Iterator[Found]:
    """Every number of a plate, a passport or an identity card."""
    for kind, pattern, accept in (
        (PLATE, _SIV, _is_siv),
        (PLATE, _FNI, _is_fni),
        (PASSPORT, _PASSPORT, _is_passport),
        (IDENTITY_CARD, _OLD_CARD, _is_card),
        (IDENTITY_CARD, _NEW_CARD, _is_new_card),
    ):
        for match in each(pattern, text, accept):
            yield Found(kind, *match.span())
