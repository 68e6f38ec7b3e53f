"""What a detector of personal data gives back, and the few tools that all of them share."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

NIR = "NIR"
SIREN = "SIREN"
SIRET = "SIRET"
TVA = "TVA"
IBAN = "IBAN"
RIB = "RIB"
CARD = "CARTE"
PHONE = "TEL"
EMAIL = "EMAIL"
PLATE = "PLAQUE"
PASSPORT = "PASSEPORT"
IDENTITY_CARD = "CNI"
ADDRESS = "ADRESSE"
IP = "IP"
BIRTH = "DATE_NAISSANCE"
PERSON = "PERSONNE"

KINDS = (
    *(NIR, SIREN, SIRET, TVA, IBAN, RIB, CARD, PHONE),
    *(EMAIL, PLATE, PASSPORT, IDENTITY_CARD, ADDRESS, IP, BIRTH, PERSON),
)

# What may stand between two digits of one number: nothing, or up to two of these.
GAP = r"[ .\-]{0,2}"

MONTHS = (
    r"(?:janv(?:ier|\.)?|f[ée]vr?(?:ier|\.)?|mars|avr(?:il|\.)|mai|juin|juil(?:let|\.)"
    r"|ao[ûu]t|sept?(?:embre|\.)?|oct(?:obre|\.)?|nov(?:embre|\.)?|d[ée]c(?:embre|\.)?)"
)


@dataclass(frozen=True, slots=True)
class Found:
    """Personal data at `text[start:end]`; holds no part of the text."""

    kind: str
    start: int
    end: int


def disjoint(candidates: Iterable[Found], length: int) -> list[Found]:
    """Those that overlap none before them, in the order of a text of `length` characters."""
    taken = []
    covered = bytearray(length)
    for found in candidates:
        if covered.find(1, found.start, found.end) < 0:
            covered[found.start : found.end] = b"\1" * (found.end - found.start)
            taken.append(found)
    return sorted(taken, key=lambda found: found.start)


def each(pattern: re.Pattern[str], text: str, accept: Callable[[str, re.Match[str]], bool]) -> Iterator[re.Match[str]]:
    """The accepted matches from left to right; a refused one does not hide what begins inside it.

    Linear as long as what `pattern` can match is bounded.
    """
    at = 0
    while (match := pattern.search(text, at)) is not None:
        accepted = accept(text, match)
        if accepted:
            yield match
        at = match.end() if accepted else match.start() + 1


def near(words: re.Pattern[str], text: str, start: int, end: int, *, before: int = 60, after: int = 30) -> bool:
    """Whether one of the words stands shortly before or after `text[start:end]` (in characters)."""
    head = text[max(0, start - before) : start]
    return words.search(head) is not None or words.search(text[end : end + after]) is not None


_RUN = re.compile(r"[0-9A-Za-z]+")


def bare(value: str) -> str:
    """Letters and digits only, in capitals."""
    return "".join(_RUN.findall(value)).upper()


def groups(value: str) -> list[int]:
    """The sizes of the runs of letters and digits."""
    return list(map(len, _RUN.findall(value)))


# A word that says the number after it is of another kind than it looks.
_OTHERWISE = re.compile(
    r"\b(?:commandes?|tickets?|r[ée]f(?:[ée]rences?)?|factures?|devis|dossiers?|incidents?|colis|suivi|isbn|ean|upc|gtin|article|"
    r"produit|s[ée]rie|imei|timestamp|version|code[ -]barres?|code|identifiant|id|lot|mod[èe]le|transaction)"
    r"\W{0,3}(?:(?:n[°ºo]|num[ée]ro|num|est|le)\W{0,3})?$",
    re.IGNORECASE,
)
_UNIT = re.compile(
    r" ?(?:€|\$|£|%|[kM]€|(?:euros?|eur|dollars?|fcfa|octets?|habitants|unités|fois|[KMGT]o|ko|ms|km|kg|années|ans|lignes|"
    r"points|vues|personnes|milli\w+)\b)",
    re.IGNORECASE,
)


def named_otherwise(text: str, start: int) -> bool:
    """Whether the word before says what the number is: an order, a ticket, a bar code."""
    return _OTHERWISE.search(text[max(0, start - 40) : start]) is not None


def counts_something(text: str, end: int) -> bool:
    """Whether a unit or a currency follows: an amount, not an identifier."""
    return _UNIT.match(text, end) is not None
