"""Telephone numbers: the French plan in all its layouts, and others as they are written abroad."""

from __future__ import annotations

import re
from collections.abc import Iterator

from gateway.guardrails.personal.found import PHONE, Found, counts_something, each, groups, named_otherwise

_GAP = r"[ .\-/]{0,2}"
# 08 is left out: the French numbering plan (Arcep) gives it to services, never to a person. 00 is the way abroad.
_NATIONAL = re.compile(rf"0(?<![\w+].)(?<![0-9][.,:\-].){_GAP}[1-79](?:{_GAP}[0-9]){{8}}(?!\w)(?![.,\-][0-9])")
# Mainland and the departments overseas, whose numbers have nine digits after the code.
_OUT = r"\(?(?:\+(?<![\w+]\+)|00(?<![\w+]00))"
_FRENCH_ABROAD = re.compile(
    rf"{_OUT} ?(?:33|262|590|594|596)\)?{_GAP}(?:\(0\){_GAP}|0{_GAP})?"
    rf"[1-9](?:{_GAP}[0-9]){{8}}(?!\w)(?![.,\-]?[0-9])"
)
# Country codes of the ITU (E.164 list of assigned codes), then six to twelve digits.
_CODES = (
    r"(?:1|7|20|27|3[0-469]|4[013-9]|5[1-8]|6[0-6]|8[1246]|9[0-58]|2[1-69]\d|3[578]\d|42\d|5[09]\d|6[7-9]\d|8[58]\d"
    r"|9[679]\d)"
)
_ABROAD = re.compile(
    rf"(?P<out>{_OUT}) ?{_CODES}\)?(?:{_GAP}\(0\))?(?:[ .\-/]{{0,2}}\(?[0-9]\)?){{6,12}}(?!\w)(?![.,\-]?[0-9])"
)
_PAIR_BEFORE = re.compile(r"(?<![0-9])[0-9]{2} $")
_PAIR_AFTER = re.compile(r" [0-9]{2}(?!\w)")


def _is_national(text: str, match: re.Match[str]) -> bool:
    value, sizes = match.group(), groups(match.group())
    if len({separator.strip() for separator in re.findall(r"[^0-9]+", value)}) > 1:
        return False  # 01.02.2025 10 is a date and an hour
    if sizes == [2, 2, 4, 2] or (min(sizes) < 2 and (sizes != [1, 3, 3, 3] or "." in value)):
        return False
    if 5 in sizes:
        return False
    if sizes == [2] * 5:  # a longer row of pairs is a list of numbers
        return not (
            _PAIR_BEFORE.search(text[max(0, match.start() - 4) : match.start()]) or _PAIR_AFTER.match(text, match.end())
        )
    return value != "0123456789" and not named_otherwise(text, match.start())


def _is_abroad(text: str, match: re.Match[str]) -> bool:
    sizes = groups(match.group())
    if not 9 <= sum(sizes) <= 17 or re.search(r"\b000\b", match.group()) or counts_something(text, match.end()):
        return False
    return "+" in match.group("out") or (len(sizes) > 2 and sum(sizes) >= 11)


def search(text: str) -> Iterator[Found]:
    """Every telephone number; they may overlap, the surest first."""
    if "+" in text or "00" in text:
        for match in _FRENCH_ABROAD.finditer(text):
            yield Found(PHONE, *match.span())
        for match in each(_ABROAD, text, _is_abroad):
            yield Found(PHONE, *match.span())
    for match in each(_NATIONAL, text, _is_national):
        yield Found(PHONE, *match.span())
