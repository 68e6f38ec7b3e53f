"""Text without its disguises: the plain form in which the classifier reads.

Case, accents, invisible and look-alike characters, digits that stand for letters, letters spaced out and letters repeated are
all undone, so that one spelling of a word is learned and all are recognised. What was written in base64 is read too.
"""

from __future__ import annotations

import base64
import binascii
import re
import unicodedata

# Cyrillic and Greek letters that look like Latin ones (a part of Unicode Technical Standard 39, confusables.txt).
_LOOK_ALIKES = str.maketrans("авеикмнорстухѕіјԁԛѵαεηικνορτυχω", "abeukmhopctyxsijdqvaenikvoptuxw")
_NOT_ASCII = re.compile("[^\0-\x7f]+")
_LEET = str.maketrans("0134578@$€", "oieastbase")
_LEET_WORD = re.compile(r"(?<![^\W_])(?:[a-z]+[0134578@$€]|[013457@$€][a-z])[a-z0134578@$€]+")
_SPACED = re.compile(r"(?<![^\W_])(?:[^\W\d_]([ .*_/|-])){2}(?:[^\W\d_]\1)*[^\W\d_](?![^\W_])")
# What the two above are never without, and most texts are: looked for first, as that is far quicker.
_MAY_BE_LEET = re.compile("[0134578@$€]")
_MAY_BE_SPACED = re.compile(r"[ .*_/|-][^\W\d_][ .*_/|-]")
_SEPARATORS = re.compile(r"[ .*_/|-]")
_REPEATED = re.compile(r"(\D)\1+")
_CODED = re.compile(r"[A-Za-z0-9+/]{16,}={0,2}")
_TOKENS = re.compile(r"[^\W_]+|[^\w\s,.'\"’‘“”«»…()-]")


def plain(text: str) -> str:
    """The text as it would have been written without disguise; white space stays where it separates words."""
    if not text.isascii():
        text = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", text).casefold())
        text = _NOT_ASCII.sub(_unmarked, text)
    text = text.lower()
    if _MAY_BE_SPACED.search(text):
        text = _SPACED.sub(lambda found: _SEPARATORS.sub("", found[0]), text)
    if _MAY_BE_LEET.search(text):
        text = _LEET_WORD.sub(lambda found: found[0].translate(_LEET), text)
    return _REPEATED.sub(_once, text)


def _once(found: re.Match[str]) -> str:
    return found[1]


def _unmarked(found: re.Match[str]) -> str:
    return "".join([c for c in found[0] if unicodedata.category(c) not in ("Mn", "Cf")]).translate(_LOOK_ALIKES)


def tokens(text: str) -> list[str]:
    """Words of the plain form, and those marks between them that carry meaning: brackets, bars, `#`, `!`."""
    return _TOKENS.findall(plain(text))


def decoded(text: str) -> str:
    """What stands in the text as base64, decoded; empty if nothing does."""
    found = []
    for coded in _CODED.findall(text):
        try:
            found.append(base64.b64decode(coded + "=" * (-len(coded) % 4), validate=True).decode())
        except (binascii.Error, UnicodeDecodeError):
            continue  # a long word, a key, an image
    return " ".join(piece for piece in found if piece.isprintable())
