"""People: names that a title or an introduction announces, and dates of birth. Other names need a model of language."""

from __future__ import annotations

import re
from collections.abc import Iterator

from gateway.guardrails.personal.found import BIRTH, MONTHS, PERSON, Found

_PARTICLE = r"(?:de la |de |du |des |d'|van der |van den |van |von |ben |bin |el |al |da |dos |di |le )"
_CAPITAL = r"(?:[A-ZÀ-ÖØ-ÞŒ](?:\w|(?<=\w)['\-](?=\w)){1,30}|[A-ZÀ-ÖØ-ÞŒ]\.)"
_NAME = rf"(?P<name>{_PARTICLE}?{_CAPITAL}(?: {_PARTICLE}?{_CAPITAL}){{0,3}})"
_FULL_NAME = rf"(?P<name>{_CAPITAL}(?: {_PARTICLE}?{_CAPITAL}){{1,3}})"
# Each begins with a class of characters, which makes the search quick; the look-behind after it keeps off the middle of words.
_TITLED = re.compile(
    r"[MDPVmdpv](?<!\w.)(?:onsieur|ONSIEUR|adame|ADAME|ademoiselle|ADEMOISELLE|a[îi]tre|octeur|rofesseur|lle|LLE|mes?|MES?"
    r"|(?<=M)M?\.|r|R|(?<=M)e|ve)\.? " + _NAME
)
_INTRODUCED = re.compile(
    r"[JMNPTBAjmnptba](?<!\w.)(?i:e m'appelle|e me nomme|on nom (?:complet )?est|r[ée]noms?(?: et nom)? ?:|om et pr[ée]noms? ?:"
    r"|om de (?:famille|naissance) ?:|itulaire ?:|[ée]n[ée]ficiaire ?:|atiente? ?:|ssurée? ?:) " + _NAME
)
_INTRODUCED_LOWER = re.compile(r"[Jj](?<!\w.)e (?:m'appelle|me nomme) (?P<name>[a-zà-ÿ][\w'\-]{1,30})")
# Two words at least: "au nom de Dieu" and "Cordialement, Merci" hold no name.
_SIGNED = re.compile(
    r"[CcSsBbAa](?<!\w.)(?i:ordialement|alutations(?: distingu[ée]es)?|ien [àa] vous|u nom de|ign[ée] ?:?)[,.]?[ \n]{1,3}"
    + _FULL_NAME
)
_KIN = re.compile(
    r"[MmNnVvSsLl](?<!\w.)(?:on|a|otre|eur) (?:fils|fille|mari|femme|[ée]poux|[ée]pouse|conjointe?|compagn(?:on|e)|fr[èe]re"
    r"|s(?:œ|oe)ur|m[èe]re|p[èe]re|voisine?|coll[èe]gue|cousine?|patiente?|neveu|ni[èe]ce|oncle|tante|cliente) " + _NAME
)
# What no name above and no date below is without.
_SHORTEST_ANNOUNCEMENT = 2  # "M."
_MAY_BE_NAMED = re.compile(r"[ \n'][A-ZÀ-ÖØ-ÞŒ]")
_DIGIT = re.compile("[0-9]")
_PARTICLES = frozenset("de la le du des van der den von ben bin el al da dos di".split())

# Words with a capital that are no names: what begins a sentence, functions, titles.
_NO_NAMES = frozenset(
    "je j tu il elle on nous vous ils elles le la les l un une des du de ce cet cette ces mon ma mes votre vos notre nos son sa "
    "ses et ou mais or donc car ni si que qui quoi dont où quand comme comment pourquoi combien quel quelle est sont a ont en "
    "dans sur sous par pour avec sans chez vers puis alors ensuite enfin voici voilà bonjour bonsoir salut merci cordialement "
    "oui non pas plus bien très tout tous toute toutes monsieur madame mademoiselle messieurs mesdames docteur professeur "
    "maître président présidente maire ministre directeur directrice préfet préfète juge procureur recteur proviseur sénateur "
    "député députée chef responsable conseiller conseillère commissaire secrétaire ambassadeur ambassadrice général colonel "
    "capitaine service équipe direction support client clientèle agence société bureau département étudiant étudiante français "
    "française ingénieur développeur assistant technicien technicienne "
    "champ obligatoire texte homme femme enfant adulte inconnu inconnue aucun aucune sav "
    "pouvez pourriez avez veuillez après avant depuis aussi ainsi cela ça c qu d n s".split()
)
# Titled, but nobody's: works, brands, figures of speech.
_NOBODY = re.compile(
    r"Tout-le-monde|Tout-le-Monde|Bovary|Propre|Irma|Bricolage|Martens|Oetker|Météo|Jourdain|Strange|House\b|Patate|Tournesol"
    r"|Dupont et|Hyde|Watson\b|Freeze|Bean\b|Pepper|Jekyll|Michu|Sévigné|Pompadour|Robot\b|Loyal|Seguin|Hulot|Doubtfire|Tussauds?"
)


def _trimmed(text: str, match: re.Match[str]) -> Found | None:
    """The name up to the first word that is none."""
    start, end = match.span("name")
    stop = start
    for word in re.finditer(r"[^ \-]+", text[start:end]):
        lower = word.group().removeprefix("d'").rstrip(".").lower()
        if lower in _PARTICLES:
            continue
        if lower.partition("'")[0] in _NO_NAMES:
            break
        stop = start + word.end()
    return Found(PERSON, start, stop) if stop - start > 2 else None


def _names(text: str) -> Iterator[Found]:
    for pattern in (_TITLED, _INTRODUCED, _SIGNED, _KIN) if _MAY_BE_NAMED.search(text, _SHORTEST_ANNOUNCEMENT) else ():
        for match in pattern.finditer(text):
            name = _trimmed(text, match)
            if name is None or _NOBODY.match(text, name.start):
                continue
            if pattern is not _SIGNED or re.search("[ -]", text[name.start : name.end]):
                yield name
    if "appelle " in text or "nomme " in text:
        for match in _INTRODUCED_LOWER.finditer(text):
            if match.group("name") not in _NO_NAMES:
                yield Found(PERSON, *match.span("name"))


_DATE = (
    rf"(?P<date>(?:1er|[0-9]{{1,2}})(?:[ ./\-]{{1,2}}[0-9]{{1,2}}[ ./\-]{{1,2}}| {MONTHS},? )(?:(?:19|20)[0-9]{{2}}|[0-9]{{2}})"
    r"|(?:19|20)[0-9]{2}[./\-][0-9]{2}[./\-][0-9]{2})(?![0-9])"
)
_BORN = re.compile(
    r"[NDnd](?<!\w.)(?:"
    r"é(?:\(e\)|[·./]e|es?|s)?(?:\.s)?(?: [A-ZÀ-Þ][\w\-]+){0,2}(?:,? (?:à|en|au) [^0-9\n,.;:]{1,40}?)?,?(?: (?:le|un|en)| ?:)"
    r"|ee? le"
    r"|ate de naissance(?: [^0-9\n.!?;,:]{0,20})?(?: ?\([^0-9)]{1,20}\))?(?: ?[:=\-]| est(?: le)?| le)?"
    r"|aissance ?(?::|le)|\.?d\.?n\.?[ :]{1,3}"
    r")(?: (?:lundi|mardi|mercredi|jeudi|vendredi|samedi|dimanche|le))?\W{0,3}" + _DATE,
    re.IGNORECASE,
)
_BORN_AFTER = re.compile(_DATE + r"[ ,(\-]{1,3}(?:date de naissance|ddn)\b", re.IGNORECASE)
_MAY_BE_BORN = re.compile(r"[Nn](?:é|ee? le|aissance)|NÉ|NAISSANCE|[Dd]\.?[Dd]\.?[Nn]")
# What is born without being a person.
_THING = re.compile(
    r"projet|entreprise|soci[ée]t[ée]|id[ée]e|\beuro\b|\bweb\b|internet|marque|produit|\bloi\b|association|r[ée]publique|\bsite\b|"
    r"application|r[ée]seau|\bparti\b|\bclub\b|groupe|festival|concept|mouvement|langage|logiciel|version|tradition|union",
    re.IGNORECASE,
)


def _births(text: str) -> Iterator[Found]:
    for pattern in (_BORN, _BORN_AFTER):
        for match in pattern.finditer(text):
            if _THING.search(text[max(0, match.start() - 40) : match.start()]) is None:
                yield Found(BIRTH, *match.span("date"))


def search(text: str) -> Iterator[Found]:
    """Every announced name and every date of birth since 1900; they may overlap."""
    yield from _names(text)
    if _DIGIT.search(text) and _MAY_BE_BORN.search(text):
        yield from _births(text)
