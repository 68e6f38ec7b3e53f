"""Was an answer in another language asked for?

Read from the user's last message by explicit rules, French and English: translate into, answer in, write in, how does one say,
correct my. What is quoted or in code is no instruction, and in doubt nothing was asked for: then the guard holds as ever.
"""

from __future__ import annotations

import re
import unicodedata
from itertools import filterfalse

# Names of languages without accents, in French (feminine and plural come from the ends) and in English.
_NAMES = {
    "fr": "francais french",
    "en": "anglais anglaise american americain english",
    "es": "espagnol espagnole castillan spanish castilian",
    "it": "italien italienne italian",
    "pt": "portugais portugaise bresilien portuguese",
    "de": "allemand allemande german",
    "nl": "neerlandais neerlandaise flamand hollandais dutch flemish",
    "ca": "catalan catalane",
    "ro": "roumain roumaine romanian",
    "pl": "polonais polonaise polish",
    "cs": "tcheque czech",
    "sk": "slovaque slovak",
    "hu": "hongrois hongroise hungarian",
    "hr": "croate croatian",
    "sr": "serbe serbian",
    "sq": "albanais albanian",
    "bg": "bulgare bulgarian",
    "el": "grec grecque greek",
    "ru": "russe russian",
    "uk": "ukrainien ukrainienne ukrainian",
    "tr": "turc turque turkish",
    "ar": "arabe arabic",
    "he": "hebreu hebrew",
    "fa": "persan farsi persian",
    "hi": "hindi",
    "ur": "ourdou urdu",
    "zh": "chinois chinoise mandarin chinese",
    "ja": "japonais japonaise japanese",
    "ko": "coreen coreenne korean",
    "vi": "vietnamien vietnamienne vietnamese",
    "th": "thai thailandais",
    "sv": "suedois suedoise swedish",
    "da": "danois danoise danish",
    "no": "norvegien norvegienne norwegian",
    "fi": "finnois finlandais finnish",
    "eu": "basque",
}
_CODES = {name: code for code, names in _NAMES.items() for name in names.split()}
_LANG = rf"(?:{'|'.join(sorted(_CODES, key=len, reverse=True))})s?\b"
_NAME = re.compile(rf"\b{_LANG}")

# "en anglais", "vers l'anglais, l'espagnol et le russe", "into English"; of two in a row ("en anglais en français") the last.
_TO = rf"\b(?:en|in|into|to|vers|a|au)\s+(?:l'\s*|le\s+|la\s+|langue\s+|bon\s+)?{_LANG}"
_AND = rf"(?:\s*(?:,|/|&|\bet|\bou|\bpuis|\band|\bor)\s*(?:puis\s+)?(?:en\s+|vers\s+|in\s+|into\s+|to\s+)?(?:l'|le\s+)?{_LANG})*"
_TARGET = rf"(?:{_TO}\s+(?=(?:en|vers)\s+(?:l'|le\s+)?{_LANG}))?(?P<target>{_TO}{_AND})"

# Words that tell of a request before an infinitive or a noun.
_WISHES = (
    r"\b(?:peu[xt]|pou(?:vez|rrais|rriez)|veux|voulez|voudrais|voudrions|aimerais|souhaite|souhaiterais|merci de|besoin|"
    r"aide[rz]?|svp|stp|s'il (?:te|vous) plait|il (?:me|nous) fa(?:ut|udrait)|comment|can|could|would|please|want|need|help)\b"
)
_WISH = re.compile(_WISHES)
# "réponds-tu", "parle-t-on": asked about, not for.
_ORDER = r"(?!-(?:t-)?(?:tu|vous|il|elle|on)\b)"
_GAP = r"[^.!?\n;]{0,80}?"
_SHORT = r"[^.!?\n;:]{0,40}?"
# What, between verb and language, takes the language for itself: an empty group marks the rules that mind it.
_MINDS = r"(?P<minds>)"
_ELSE = re.compile(
    r"\b(?:qui|que|dont|quand|lorsque|si|comment|pourquoi|difference|progresser|ameliorer|apprendre|apprentissage|niveau|cours|"
    r"examen|logiciel|redigé\w*|publié\w*|tourné\w*|ecrite?s?|traduite?s?|livres?|films?|series?|interface|who|which|when|how|why|learn|improve)\b"
)
_WRITE = (
    r"(?:repond(?:s|ez|re|es|iez)|(?:re)?ecri(?:s|vez|re|ves|viez)|recri(?:s|vez|re)|redige[zr]?|compose[zr]?|redact|continue[zr]?|"
    r"parle[zr]?|dis|dites|dire|resume[zr]?|reformule[zr]?|formule[zr]?|raconte[zr]?|invente[zr]?|genere[zr]?|"
    r"cree[zr]?|prepare[zr]?|cite[zr]?|recite[zr]?|chante[zr]?|conjugue[zr]?|transcri(?:s|vez|re)|"
    r"parlons|parles|continuons|ecrivons|rend(?:s|ez|re)|adapte[zr]?|simplifie[zr]?|raccourci(?:s|ssez|r)|developpe[zr]?|"
    r"complete[zr]?|termine[zr]?|simule[zr]?|imagine[zr]?|joue[zr]?|compte[zr]?|nomme[zr]?|refai(?:s|tes|re)|"
    r"answer|reply|respond|write|speak|say|draft|continue|summari[sz]e|compose|recite|rewrite|rephrase|conjugate)"
)
_INFINITIVE = re.compile(r"(?:re|er)$")
_THINGS = (
    r"(?:phrases?|exemples?|mots?|vocabulaire|verbes?|textes?|dialogues?|versions?|traductions?|poemes?|mails?|e-mails?|emails?|"
    r"courriels?|courriers?|lettres?|messages?|expressions?|synonymes?|citations?|slogans?|titres?|descriptions?|reponses?|"
    r"equivalents?|formules?|proverbes?|chansons?|resumes?|cv|annonces?|articles?|discours|recits?|histoires?|contes?|dictees?|"
    r"paroles|tweets?|posts?|fiches?|scripts?|billets?|presents?|imparfaits?|futurs?|alphabet|chiffres|nombres|"
    r"sentences?|words?|examples?|letters?|poems?|translations?|versions?|stor(?:y|ies)|quotes?)"
)
_EXPLAIN = r"(?:explique[zr]?|decri(?:s|vez|re)|presente[zr]?|explain|describe|introduce)"
# Of these, an adjective tells the language; of a tale or a poem, the country.
_WORDS = r"(?:phrases?|mots?|vocabulaire|verbes?|textes?|mails?|emails?|expressions?|synonymes?|proverbes?|sentences?|words?)"
_GIVE = (
    r"(?:donne[zr]?|fournis(?:sez)?|fournir|fai(?:s|tes|re)|propose[zr]?|envoie|envoyer|montre[zr]?|trouve[zr]?|liste[zr]?|"
    r"give|show|make|create)"
)
_CORRECTS = (
    "corrige corrigez corriger relis relisez relire ameliore ameliorez ameliorer verifie verifiez verifier "
    "correct proofread improve fix check"
).split()
_CORRECT = rf"(?:{'|'.join(_CORRECTS)})"
_OWN = r"(?:mon|ma|mes|ce|cet|cette|ces|le|la|les|l'|un|une|my|this|these|the)"

_SOME = r"(?:une?|des|de|d'|quelques|plusieurs|deux|trois|quatre|cinq|six|dix|\d+|an?|some|two|three|five|ten)"

_RULES = [
    re.compile(pattern)
    for pattern in (
        # translate … into
        rf"(?P<verb>\btradui(?:s|sez|re|ses|siez)|\btranslate)\b(?:-\S+)?{_GAP}{_TARGET}",
        rf"(?:^|[.!?\n]\s*)(?P<verb>traduit|traduction|translation|reponse)\b{_SHORT}{_TARGET}",
        rf"(?:^|[.!?\n]\s*)(?:version|traduction)\s+(?P<target>{_LANG}{_AND})",
        # answer, write, say … in
        rf"(?P<verb>\b{_WRITE})\b{_ORDER}{_MINDS}{_GAP}{_TARGET}",
        rf"(?P<verb>\b{_GIVE})\b(?:-\S+)?[^.!?\n;:]{{0,60}}?\b{_THINGS}\b{_MINDS}{_SHORT}{_TARGET}",
        rf"(?P<verb>\b{_GIVE}|\b{_WRITE})\b(?:-\S+)?[^.!?\n;:]{{0,20}}?\b{_SOME}\s*(?:\S+\s+)?{_WORDS}\s+(?P<target>{_LANG}{_AND})",
        rf"(?P<verb>\b{_GIVE})\b(?:-\S+)?[^.!?\n;:]{{0,20}}?\b(?:version|traduction)s?\s+(?P<target>{_LANG}{_AND})",
        rf"(?P<verb>\b{_EXPLAIN})\b(?:-\S+)?\s+(?:(?:ca|cela|le|la|tout|it|this|that|yourself)\s+)?{_TARGET}",
        rf"(?P<verb>\bmet(?:s|tez|tre))\b(?:-\S+)?\s+(?:ca|cela|tout|{_OWN}\s+{_THINGS})\s+{_TARGET}",
        # speak …, switch to …
        rf"(?P<verb>\b(?:parle[rsz]?|parlons|parliez|speak))\b{_ORDER}(?:-\S+)?\s+(?P<target>{_LANG}{_AND})",
        rf"(?P<verb>\b(?:re)?(?:pass(?:e[zr]?|ons)|switch|bascule[zr]?|change[zr]?))\b(?:-\S+)?\s+(?:tout\s+|maintenant\s+)?{_TARGET}",
        rf"{_WISHES}{_MINDS}[^.!?\n;:]{{0,30}}?\b(?:un|une|des|d'une?|le|la|a|an|some)\s*{_THINGS}\b{_SHORT}{_TARGET}",
        rf"{_WISHES}{_MINDS}[^.!?\n;:]{{0,30}}?\b(?:version|traduction|translation)s?\s+(?:en\s+)?(?P<target>{_LANG}{_AND})",
        # how does one say … in
        rf"\bcomment\s+(?:est-ce qu[e'] ?|on\s+|se\s+|s'|peut-on\s+|tu\s+|vous\s+)*"
        rf"(?:dit|dire|dis|dites|dirai|diriez|tradui|ecrit|ecrire|prononce|prononcer|appelle|nomme|conjugue)\w*\b{_GAP}{_TARGET}",
        rf"\b(?:mot|equivalent|terme|traduction)s?\s+(?P<target>{_LANG})\s+(?:pour|de|d'|du)\b",
        rf"\b(?P<target>{_LANG})\s+(?:word|translation|equivalent)s?\s+(?:for|of)\b",
        rf"\bhow (?:do|would|can|to)\b[^.!?\n]{{0,20}}?\b(?:say|write|pronounce|translate|spell)\b{_GAP}{_TARGET}",
        rf"\b(?:quel(?:le)?s? (?:est|sont)|c'est quoi|what is|what's)\b[^.!?\n]{{0,20}}?"
        rf"\b(?:mot|traduction|equivalent|terme|conjugaison|word|translation)s?\b{_GAP}{_TARGET}",
        # correct my …
        rf"(?P<verb>\b{_CORRECT})\b(?:-\S+)?\s+(?:{_OWN}\s*)(?:\S+\s+){{0,3}}?(?:en\s+|in\s+)?(?P<target>{_LANG})",
        rf"(?P<verb>\b{_CORRECT})\b[^.!?\n;:]{{0,40}}?\b{_THINGS}\s+(?:\S+\s+)?(?:en\s+|in\s+)?(?P<target>{_LANG})",
        # conjugate a verb of …
        rf"\b(?:conjugu\w+|conjugaison|conjugate)\b[^.!?\n]{{0,40}}?\bverbe?s?\s+(?P<target>{_LANG})",
        # the message is no more than that
        rf"^\W*(?:(?:et|ok|oui|maintenant|pareil|idem|la meme chose|le meme texte|again|now|and|the same)\W+)*"
        rf"(?:(?:en|in)\s+(?P<target>{_LANG}{_AND})|version\s+(?P<other>{_LANG}))\W*"
        r"(?:s'il (?:te|vous) plait|stp|svp|please|merci)?\W*$",
        rf"\b(?:en|in)\s+(?P<target>{_LANG}{_AND})\s*,?\s*(?:s'il (?:te|vous) plait|stp|svp|please)\W*$",
    )
]
_WORD = re.compile(r"\w+")
# Every rule wants a language by its name as a word, except those to correct: "mon" and "anglais" may have grown together there.
_SIGNS = frozenset([*_CODES, *(f"{name}s" for name in _CODES), *_CORRECTS])
_NOT = re.compile(
    r"\b(?:ne|pas|jamais|sans|evite[rz]?|arrete[rz]?|plutot que|au lieu de|don't|do not|not|never|without|stop)\b|\bn'"
)
# "tu réponds", "je t'écris", "pourquoi répondre": told, not asked for.
_TOLD = re.compile(
    r"(?:\b(?:tu|vous|je|il|elle|on|nous|ils|elles|i|you|they|he|she|we)\s+(?:me\s+|nous\s+|te\s+|vous\s+|lui\s+)?|\b[jtmlnsd]'|\bpourquoi\s+)$"
)
# "le mail en anglais que j'ai reçu": the language is that of what there is already.
_THAT = re.compile(r"\b(?:le|la|les|ce|cet|cette|ces|mon|ma|mes)\s")
_RELATIVE = re.compile(r"\s+(?:que|qu'|qui|dont)\b")
_LEARN = re.compile(r"\b(?:apprendre|progresser|reussir|learn)\b")
_CLAUSE = re.compile(r"[.!?\n;:,]")
_QUOTED = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`|«[^»]*»|“[^”]*”|\"[^\"\n]*\"", re.DOTALL)
_PARTICIPLE = re.compile(r"(?<!m)é(?=e?s?\b)")  # "résumé" is a noun
_INTO_FRENCH = re.compile(
    r"\b(?:tradui\w+|translate)\b[^.!?\n:]{0,80}?\b(?:en|vers le|to|into|in)\s+(?:francais|french)\b[^.!?\n:]{0,60}(?::|\n)"
)
# Characters at either end of a message that are read: what lies between is the material, not the instruction.
_HEAD, _FOOT = 600, 300


def language_asked(text: str) -> frozenset[str]:
    """The languages beside French (ISO 639-1) that a user's message asks the answer to be in, or to hold; none in doubt."""
    plain = _plain(text)
    if _SIGNS.isdisjoint(_WORD.findall(plain)):
        return frozenset()
    asked = {
        code for rule in _RULES for match in rule.finditer(plain) if _meant(plain, match) for code in _codes(match)
    }
    return frozenset(asked - {"fr"})


def _plain(text: str) -> str:
    """The instruction: without quotations and code, what is to be translated into French, accents and capitals."""
    text = _QUOTED.sub(" … ", text)
    if len(text) > _HEAD + _FOOT:
        text = f"{text[:_HEAD]}\n{text[-_FOOT:]}"
    # The accent that tells "rédigé" from "rédige" stays.
    plain = text.lower().replace("’", "'")
    if not plain.isascii():
        marks = unicodedata.normalize("NFD", _PARTICIPLE.sub("\0", plain))
        plain = "".join(filterfalse(unicodedata.combining, marks))
    plain = plain.replace("\0", "é")
    french = _INTO_FRENCH.search(plain) if "tra" in plain else None
    return plain[: french.end()] if french else plain


def _codes(match: re.Match[str]) -> set[str]:
    groups = match.groupdict()
    named = " ".join(filter(None, (groups.get("target"), groups.get("other"))))
    return {_CODES[name] if name in _CODES else _CODES[name.removesuffix("s")] for name in _NAME.findall(named)}


def _meant(text: str, match: re.Match[str]) -> bool:
    groups = match.groupdict()
    start = match.start("verb") if groups.get("verb") else match.start()
    before = _CLAUSE.split(text[max(0, start - 60) : start])[-1]
    if _NOT.search(before + match.group()):
        return False
    if "minds" in groups:
        between = text[match.start("minds") : match.start("target")]
        if _ELSE.search(between) or (_THAT.search(between) and _RELATIVE.match(text, match.end())):
            return False
    if not groups.get("verb"):
        return True
    wished = _WISH.search(before)
    if _INFINITIVE.search(groups["verb"]):
        return not _LEARN.search(before) and (wished is not None or before.strip() in {"", "a", "de"})
    return wished is not None or not _TOLD.search(before)
