"""Postal addresses: a number, a kind of way and its name, then what may follow down to the town.

French helps: "12 rue" in the singular can only be an address, since twelve streets would be "12 rues". Where that does not
tell (one place, three cours), a postcode or a word such as "habite" must.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from gateway.guardrails.personal.found import ADDRESS, MONTHS, Found

_STREET = (
    r"rue|ruelle|avenue|ave?|boulevard|boul|b[vl]?d|impasse|imp\.|all[ée]es?|all\.|chemin|che|chem?\.|ch\.|quai|square|sq\."
    r"|esplanade|venelle|faubourg|f(?:b)?g|lotissement|lot\.|rond-point|sentier|traverse|chauss[ée]e|hameau|parvis|promenade|r\."
    r"|mont[ée]e|route|rte|place|pl|villa|cit[ée]|passage|voie|clos|r[ée]sidence|r[ée]s\."
)
# Also the name of something counted, invariable or not a way in the first place.
_UNCERTAIN = (
    r"cours|crs|domaine|cour|galerie|parc|c[ôo]te|mail|mas|quartier|port|pont|immeuble|tour|b[âa]timent|z\.?[ai]\.?c?\.?"
    r"|lieu[- ]dit"
)
_PARTICLE = r"(?i:de la|de l'|du|des|de|d'|la|les|le|l'|aux|au|à|en|sur|sous|et|lès|chez)"
_CAPITAL = r"[A-ZÀ-ÖØ-ÞŒ][\w']{0,30}(?:-[\w']{1,30}){0,5}(?:(?<=\b\w)\.|(?<=\bSt|\bDr)\.|(?<=\bSte|\bGal|\bMal)\.)?"
_DAY = rf"(?i:(?:1er|[0-9]{{1,2}})[ \-]{MONTHS}(?:[ \-][0-9]{{4}})?)"
_NAME = (
    rf"(?:(?:{_PARTICLE}(?:(?<=')|[ \-])){{0,2}}(?:{_DAY}|{_CAPITAL})"
    rf"(?: (?:{_PARTICLE}(?:(?<=')|[ \-])){{0,2}}{_CAPITAL}){{0,5}})"
)
_PLAIN_NAME = r"(?:[a-zà-ÿœ][\w'\-]{0,30}(?: [\w'\-]{1,30}){0,5}?)"
_TOWN = rf"{_CAPITAL}(?: (?:{_PARTICLE}(?:(?<=')|[ \-])){{0,2}}{_CAPITAL}){{0,4}}(?: [0-9]{{1,2}}(?![\w]))?"
_POSTCODE = r"(?:F-?)?(?:0[1-9]|[1-8][0-9]|9[0-8]) ?[0-9]{3}(?![0-9])"
_BREAK = r"[ ,;\n(–\-]{1,3}"
_INSIDE = (
    r"(?:[ ,\n\-]{1,3}(?i:b[âa]t(?:iment|\.)?|app?t\.?|appartement|esc(?:alier|\.)?|porte|[ée]tage|r[ée]sidence|r[ée]s\."
    r"|bp|cs|bo[îi]te|lieu[- ]dit) ?[\w°\-]{1,20}(?: (?:[A-Z][\w\-]*|étage)){0,2}|[ ,]{1,3}[0-9]{1,2}(?:er|e|[èe]me) étage){0,3}"
)
_NUMBERED = re.compile(
    r"(?P<number>[0-9](?<![\w].)(?<![0-9][.,/:\-].)[0-9]{0,3}+)(?: ?(?:bis|ter|quater|[a-dA-D])\b| ?[\-/] ?[0-9]{1,4})?"
    rf" ?,? ?(?i:(?P<plain>rue|ave?\.?|avenue|boulevard|bd|impasse|all[ée]e)|(?P<street>{_STREET})|{_UNCERTAIN})(?!\w)\.? ?"
)
_NAMED = re.compile(
    rf"{_NAME}{_INSIDE}(?P<town>{_BREAK}{_POSTCODE}(?: {_TOWN}|,? [a-zà-ÿ][\w'\-]+)?|,? à {_TOWN}|, {_TOWN}(?=\s*(?:[.;)\n]|$)))?"
)
# Written without capitals: a postcode or a particle shows that it is a name.
_LOWER = re.compile(rf"{_PLAIN_NAME}(?P<town>{_BREAK}{_POSTCODE}(?:,? [\w'\-]+)?)")
_LOWER_SHORT = re.compile(r"(?:de la|de l'|du|des|de|d')(?:(?<=')| )[\w'\-]{2,30}")
_UNNUMBERED = re.compile(
    rf"(?<!\w)(?P<way>(?i:{_STREET}|{_UNCERTAIN}|BP|CS|TSA))\b\.? ?(?P<name>[0-9]{{1,5}}|{_NAME}){_INSIDE}"
    rf"{_BREAK}{_POSTCODE} {_TOWN}"
)
_POSTCODE_AHEAD = re.compile(r"[0-9](?<!\w.)[0-9] ?[0-9]{3}(?!\w) [A-Z]")
# The number numbers something else: a line of the metro, a volume.
_NUMBERS_OTHER = re.compile(
    r"\b(?:ligne|bus|tram(?:way)?|m[ée]tro|saison|[ée]pisode|tome|volume|article|chapitre|partie|version|[ée]tape|niveau|page|top"
    r"|acte|figure|question|exercice|windows|n[°º]) ?$",
    re.IGNORECASE,
)
_LIVES = re.compile(
    r"habit|adresse|domicil|demeur|r[ée]sid(?!u)|livr|si[èe]ge|\bsitu[ée]|\bsise?\b|loge|d[ée]m[ée]nag|rendez-vous|"
    r"\b(?:au|du|chez)\W{0,2}$",
    re.IGNORECASE,
)


def _end(text: str, head: re.Match[str]) -> int | None:
    """Where the address ends that begins with this number and this kind of way."""
    number, singular = int(head.group("number")), head.group("street") or head.group("plain")
    sure = singular is not None and number > 1 and not 1900 <= number < 2100
    match = _NAMED.match(text, head.end()) or _LOWER.match(text, head.end())
    if match is None and head.group("plain"):
        match = _LOWER_SHORT.match(text, head.end())
        town = False
    elif match is not None:
        town = match.group("town") is not None
    if match is None:
        return None
    before = text[max(0, head.start() - 40) : head.start()]
    if town or (sure and not _NUMBERS_OTHER.search(before)) or _LIVES.search(before):
        return match.end()
    return None


def search(text: str) -> Iterator[Found]:
    """Every postal address, as far as it goes; they may overlap."""
    for head in _NUMBERED.finditer(text):
        if (end := _end(text, head)) is not None:
            yield Found(ADDRESS, head.start(), end)
    if _POSTCODE_AHEAD.search(text):
        for match in _UNNUMBERED.finditer(text):
            yield Found(ADDRESS, *match.span())
