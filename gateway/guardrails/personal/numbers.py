"""Numbers with check digits: social security, companies, banks, cards. The check digits are what keeps false alarms away."""

from __future__ import annotations

import re
from collections.abc import Iterator

from stdnum import iban
from stdnum.fr import nir, siret, tva

from gateway.guardrails.personal.found import (
    CARD,
    GAP,
    IBAN,
    NIR,
    RIB,
    SIREN,
    SIRET,
    TVA,
    Found,
    bare,
    counts_something,
    each,
    groups,
    named_otherwise,
    near,
)

# A number neither begins inside a word nor after "3," or "3.", and neither ends inside one nor before ",3".
_FIRST = r"(?<![\w+]{0})(?<![0-9][.,/:\-]{0})"
_LAST = r"(?![\w])(?![.,:\-][0-9])"


_DOUBLED = str.maketrans("0123456789", "0246813579")


def luhn(digits: str) -> bool:
    """Whether the check digit agrees (ISO/IEC 7812-1, annex B). Asked at every number: five times as fast as stdnum's."""
    return (sum(map(int, digits[-1::-2])) + sum(map(int, digits[-2::-2].translate(_DOUBLED)))) % 10 == 0


def _digits(first: str, count: int, gap: str = GAP) -> str:
    """A pattern: a digit of class `first`, then `count` more. The class comes first so that the search is quick."""
    return rf"{first}{_FIRST.replace('{0}', first)}(?:{gap}[0-9]){{{count}}}"


# Sex, year, month (above 12: unknown), department (2A and 2B: Corsica), commune, order; then the key.
_NIR = re.compile(
    rf"{_digits('[1-478]', 2)}{GAP}(?:0{GAP}[1-9]|1{GAP}[0-2]|2{GAP}0|[3-9]{GAP}[0-9])"
    rf"{GAP}(?:[0-9]{GAP}[0-9]|2{GAP}[ABab])(?:{GAP}[0-9]){{6}}"
    rf"(?P<key>[ .\-/,(]{{0,3}}(?:cl[ée] ?:? ?)?[0-9]{GAP}[0-9])?(?![0-9A-Za-z])(?![.,\-]?[0-9])"
)
_NIR_WORDS = re.compile(
    r"s[ée]cu\b|s[ée]curit[ée] sociale|\bn\.?i\.?r\b|\bn\.?s\.?s\b|\bn[°ºo] ?ss\b|\bINSEE\b|\bvitale\b|\bassurée?\b"
    r"|immatriculation|\bcpam\b|\bmatricule\b",
    re.IGNORECASE,
)


def _is_nir(text: str, match: re.Match[str]) -> bool:
    digits = bare(re.sub("(?i)clé|cle", "", match.group()))
    if match.group("key"):
        if digits.isdigit() and (int(digits[:13]) + int(digits[13:])) % 97:
            return False  # nearly always; asked first because it is quick
        return nir.is_valid(digits)
    return near(_NIR_WORDS, text, *match.span()) and not counts_something(text, match.end())


_SIRET = re.compile(_digits("[0-9]", 13) + _LAST)
_SIREN = re.compile(_digits("[0-9]", 8) + _LAST)
_COMPANY = re.compile(
    r"\b(?:siren|siret|r\.?c\.?s\b|kbis|registre du commerce|immatricul|insee|naf\b|ape\b)"
    r"|(?-i:\b(?:SAS|SASU|SARL|EURL|SCI|SNC)\b)",
    re.IGNORECASE,
)
_COMPANY_LOOSELY = re.compile(
    r"soci[ée]t[ée]|entreprise|[ée]tablissement|factur|fournisseur|\btva\b|raison sociale|association|"
    + _COMPANY.pattern,
    re.IGNORECASE,
)
_ABROAD = re.compile(r"\+ ?[0-9]{1,3}\)? ?$")  # a telephone number goes on
_SIRET_LAYOUTS = ([14], [9, 5], [3, 3, 3, 5])


def _is_siret(text: str, match: re.Match[str]) -> bool:
    digits = bare(match.group())
    if not luhn(digits[:9]):
        return False
    # Both parts carry a check digit; nearly every establishment is among the first 999 of its company.
    if not siret.is_valid(digits) or named_otherwise(text, match.start()) or not digits.strip("0"):
        return False
    usual = groups(match.group()) in _SIRET_LAYOUTS and digits[9:11] == "00"
    return usual or near(_COMPANY_LOOSELY, text, *match.span())


def _is_siren(text: str, match: re.Match[str]) -> bool:
    digits = bare(match.group())
    if not luhn(digits) or not digits.strip("0") or counts_something(text, match.end()):
        return False
    if _ABROAD.search(text[max(0, match.start() - 8) : match.start()]):
        return False
    return near(_COMPANY, text, *match.span(), after=15)


_TVA = re.compile(
    rf"[Ff](?<!\w.)[Rr]{GAP}(?:[0-9A-HJ-NP-Za-hj-np-z]{GAP}){{2}}[0-9](?:{GAP}[0-9]){{8}}{_LAST}(?! ?[0-9])"
)


def _is_tva(_: str, match: re.Match[str]) -> bool:
    return tva.is_valid(bare(match.group()))


# Characters of an IBAN by country: SEPA, by the SWIFT IBAN registry (release 101).
_IBAN_LENGTHS = {
    country: int(length)
    for country, length in re.findall(
        r"([A-Z]{2})(\d\d)",
        "FR27 AD24 AL28 AT20 BE16 BG22 CH21 CY28 CZ24 DE22 DK18 EE20 ES24 FI18 GB22 GI23 GR27 HR21 HU28 IE22 IS26 IT27 LI21 "
        "LT20 LU20 LV21 MC27 MD24 ME22 MK19 MT31 NL18 NO15 PL28 PT25 RO24 RS22 SE24 SI19 SK24 SM27 VA22",
    )
}
_IBAN_HEAD = re.compile(rf"[A-Za-z](?<![^\W_].)[A-Za-z]{GAP}[0-9]{GAP}[0-9](?={GAP}[A-Za-z0-9])")
_PIECE = re.compile(rf"{GAP}([A-Za-z0-9])")


def _iban_end(text: str, start: int) -> int | None:
    length = _IBAN_LENGTHS.get(text[start : start + 2].upper())
    if length is None:
        return None
    at = start
    for _ in range(length):
        piece = _PIECE.match(text, at)
        if piece is None:
            return None
        at = piece.end()
    if text[at : at + 1].isalnum() or not iban.is_valid(bare(text[start:at]), check_country=False):
        return None
    return at


def _ibans(text: str) -> Iterator[Found]:
    for match in _IBAN_HEAD.finditer(text):
        if (end := _iban_end(text, match.start())) is not None:
            yield Found(IBAN, match.start(), end)


_RIB = re.compile(_digits("[0-9]", 9) + rf"(?:{GAP}[0-9A-Z]){{11}}(?:{GAP}[0-9]){{2}}{_LAST}")
_RIB_IN_WORDS = re.compile(
    r"[0-9](?<!\w.)[0-9]{4}\b[^0-9\n]{1,20}\b[0-9]{5}\b[^0-9\n]{1,20}\b[0-9A-Z]{11}\b[^0-9\n]{1,15}\b[0-9]{2}\b"
)
_BANK = re.compile(r"\brib\b|banque|bancaire|\bcompte|guichet|virement|pr[ée]l[èe]vement|\biban\b", re.IGNORECASE)
# Letters of an account number count as digits: A and J as 1, B, K and S as 2, C, L and T as 3, and so on.
_RIB_LETTERS = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "12345678912345678923456789")


def rib_key(bank: str, branch: str, account: str) -> int:
    """The key of a relevé d'identité bancaire: 97 − ((89 × bank + 15 × branch + 3 × account) mod 97).

    Source: Comité français d'organisation et de normalisation bancaires, as told by fr.wikipedia.org/wiki/Clé_RIB.
    """
    return 97 - (89 * int(bank) + 15 * int(branch) + 3 * int(account.upper().translate(_RIB_LETTERS))) % 97


def _is_rib(text: str, match: re.Match[str]) -> bool:
    parts = "".join(re.findall(r"\b[0-9A-Z]*[0-9][0-9A-Z]*\b", match.group()))
    if len(parts) != 23 or sum(map(str.isdigit, parts[10:21])) < 6:
        return False
    if int(parts[21:]) != rib_key(parts[:5], parts[5:10], parts[10:21]):
        return False
    return groups(match.group()) == [5, 5, 11, 2] or near(_BANK, text, *match.span())


_CARD = re.compile(
    rf"[3-6](?<![\w].)(?<![0-9][.,/:\-].)(?:{GAP}[0-9]){{11,18}}{_LAST}|2(?<!\w.)[2-7](?:{GAP}[0-9]){{14}}{_LAST}"
)
_CARD_WORDS = re.compile(
    r"\bcartes?\b|\bcb\b|visa|master ?card|maestro|amex|american express|d[ée]bit|pr[ée]lev|paiement|pay[ée]|expir",
    re.IGNORECASE,
)
_CARD_LAYOUTS = ([4, 4, 4, 4], [4, 6, 5], [4, 4, 4, 3], [16], [15])
# Issuer prefixes and lengths (ISO/IEC 7812): Visa, Mastercard, American Express, Discover, JCB, Diners, UnionPay, Maestro.
_ISSUERS = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})|5[1-5]\d{14}|2(?:22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720)\d{12}|3[47]\d{13}"
    r"|(?:6011|65\d\d|64[4-9]\d)\d{12}|35(?:2[89]|[3-8]\d)\d{12}|3(?:0[0-5]|[68]\d)\d{11}|62\d{14,17}|(?:50|5[678]|6[37])\d{14}"
)


def _is_card(text: str, match: re.Match[str]) -> bool:
    digits = bare(match.group())
    if _ISSUERS.fullmatch(digits) is None or not luhn(digits) or named_otherwise(text, match.start()):
        return False
    return groups(match.group()) in _CARD_LAYOUTS or near(_CARD_WORDS, text, *match.span())


def search(text: str) -> Iterator[Found]:
    """Every number whose check digits agree, the surest kinds first; they may overlap."""
    yield from _ibans(text)
    for kind, pattern, accept in (
        (RIB, _RIB, _is_rib),
        (RIB, _RIB_IN_WORDS, _is_rib),
        (NIR, _NIR, _is_nir),
        (TVA, _TVA, _is_tva),
        (CARD, _CARD, _is_card),
        (SIRET, _SIRET, _is_siret),
        (SIREN, _SIREN, _is_siren),
    ):
        for match in each(pattern, text, accept):
            yield Found(kind, *match.span())
