r"""Personal data hidden from a model: masked for good, or replaced by placeholders that the answer's reader never sees.

A placeholder is `[TEL_1]`: plain ASCII, free of what JSON and HTML escape, and the form of the anonymised letters that models
were trained on, so that they copy it. Those that come back slightly altered (`[tel 1]`, `\[TEL\_1\]`) are known all the same.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from gateway.guardrails import personal
from gateway.guardrails.personal import Found, disjoint

# kind -> what stands for it in a masked text
MASKS: Mapping[str, str] = {
    "NIR": "[NIR]",
    "SIREN": "[SIREN]",
    "SIRET": "[SIRET]",
    "TVA": "[TVA]",
    "IBAN": "[IBAN]",
    "RIB": "[RIB]",
    "CARTE": "[CARTE]",
    "TEL": "[TÉLÉPHONE]",
    "EMAIL": "[COURRIEL]",
    "PLAQUE": "[PLAQUE]",
    "PASSEPORT": "[PASSEPORT]",
    "CNI": "[CNI]",
    "ADRESSE": "[ADRESSE]",
    "IP": "[IP]",
    "DATE_NAISSANCE": "[DATE]",
    "PERSONNE": "[NOM]",
}
# kind -> the word in its placeholders: letters only
_WORDS = {**{kind: kind for kind in MASKS}, "DATE_NAISSANCE": "DATE", "PERSONNE": "NOM"}
# Kinds whose separators mean nothing; elsewhere a full stop or a slash does (1.12.0.1 is not 11.2.0.1).
_COMPACT = frozenset("NIR SIREN SIRET TVA IBAN RIB CARTE TEL PLAQUE PASSEPORT CNI".split())
_ABROAD = re.compile(r"^(?:\+|00)330?")

_PLACEHOLDER = re.compile(
    rf"\\?\[ ?(?P<word>{'|'.join(_WORDS.values())})\\?[ _\-]?(?P<number>[1-9][0-9]{{0,5}}) ?\\?\]",
    re.IGNORECASE | re.ASCII,
)
# What may become one: the same, broken off anywhere. The word and number are looked up, so that little is held back.
_BEGUN = re.compile(
    r"\\?(?:\[ ?(?:(?P<word>[A-Z]{1,9})(?P<then>\\?[ _\-]?)(?:(?P<number>[1-9][0-9]{0,5})(?P<last> ?\\?))?)?)?",
    re.IGNORECASE | re.ASCII,
)
_LONGEST = 26


def mask(text: str, found: Sequence[Found]) -> str:
    """The text with a word in brackets (see `MASKS`) for each find; `found` is in order, as `personal.find` gives it."""
    return _replaced(text, found, lambda one: MASKS[one.kind])


class Pseudonyms:
    """The placeholders of one request. One value has one placeholder in all of its texts, whatever its spacing."""

    def __init__(self) -> None:
        self._placeholders: dict[tuple[str, str], str] = {}
        self._values: dict[str, str] = {}
        self._counts: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._values)

    def kinds(self) -> list[str]:
        """The kind of each value that has a placeholder."""
        return [kind for kind, _ in self._placeholders if kind in MASKS]

    def hide(self, text: str) -> str:
        """The text without its personal data.

        What looks like a placeholder in it is hidden like a value: it comes back as it was, never as somebody's number.
        """
        lookalikes = [Found(match.group("word").upper(), *match.span()) for match in _PLACEHOLDER.finditer(text)]
        found = personal.find(text)
        if lookalikes:
            found = disjoint([*lookalikes, *found], len(text))
        return _replaced(text, found, lambda one: self._placeholder(one.kind, text[one.start : one.end]))

    def restore(self, text: str) -> str:
        """A whole text with the values back in it."""
        return _PLACEHOLDER.sub(lambda match: self._values.get(_key(match), match.group()), text)

    def restorer(self, escape: Callable[[str], str] = str) -> Restorer:
        """A stage for one streamed text; `escape` fits a value to what it stands in, such as a JSON string."""
        return Restorer({key: escape(value) for key, value in self._values.items()})

    def _placeholder(self, kind: str, value: str) -> str:
        word = _WORDS.get(kind, kind)
        identity = (kind, value if _PLACEHOLDER.fullmatch(value) else _normal(kind, value))
        if identity not in self._placeholders:
            number = self._counts[word] = self._counts.get(word, 0) + 1
            self._placeholders[identity] = f"[{word}_{number}]"
            self._values[f"{word}{number}"] = value
        return self._placeholders[identity]


class Restorer:
    """Puts values back into a streamed text. Holds back only what may be the beginning of a placeholder given out.

    A `Stage` of the output gate; the result is that of replacing in the whole text, wherever the stream is cut.
    """

    def __init__(self, values: Mapping[str, str]) -> None:
        """`values` by word and number: `TEL1`."""
        self._values = values
        self._beginnings = frozenset(key[:size] for key in values for size in range(1, len(key) + 1))
        self._words = frozenset(key.rstrip("0123456789") for key in values)
        self._text = ""

    def feed(self, text: str) -> str:
        """What may leave, values put back."""
        self._text += text
        return self._release(self._hold())

    def finish(self) -> str:
        """The rest."""
        return self._release(len(self._text))

    def _release(self, cut: int) -> str:
        released, self._text = self._text[:cut], self._text[cut:]
        return _PLACEHOLDER.sub(lambda match: self._values.get(_key(match), match.group()), released)

    def _hold(self) -> int:
        """The index from which the text may be an unfinished placeholder; its length if none."""
        text = self._text
        if not self._values:
            return len(text)
        bracket = text.rfind("[", max(0, len(text) - _LONGEST))
        starts = [bracket - 1, bracket] if text[:bracket].endswith("\\") else [bracket]
        if text.endswith("\\"):
            starts.append(len(text) - 1)
        for start in starts:
            begun = _BEGUN.fullmatch(text, start) if start >= 0 else None
            if begun is not None and self._possible(begun):
                return start
        return len(text)

    def _possible(self, begun: re.Match[str]) -> bool:
        word, number = (begun.group("word") or "").upper(), begun.group("number") or ""
        if begun.group("last"):
            return word + number in self._values
        if begun.group("then") and not number:
            return word in self._words
        return not word or word + number in self._beginnings


def _replaced(text: str, found: Sequence[Found], by: Callable[[Found], str]) -> str:
    pieces, at = [], 0
    for one in found:
        pieces += [text[at : one.start], by(one)]
        at = one.end
    return "".join([*pieces, text[at:]])


def _key(match: re.Match[str]) -> str:
    return match.group("word").upper() + match.group("number")


def _normal(kind: str, value: str) -> str:
    """What two ways of writing one value share."""
    if kind not in _COMPACT:
        return " ".join(value.split()).casefold()
    compact = "".join(character for character in value if character.isalnum() or character == "+").casefold()
    return _ABROAD.sub("0", compact) if kind == "TEL" else compact
