"""Is a piece of text French?

One function decides, `Detector.judge`, so that the detector behind it (eldc, whose version is locked) can be replaced. What
is not prose is taken out first: code, addresses, formulas and quotations are not drift. Under `MIN_LETTERS` letters the
detector is not asked: it would guess.
"""

from __future__ import annotations

import enum
import re
import unicodedata

import eldc

MIN_LETTERS = 20
# Characters. A drift in mid-sentence hides in a longer text; below this the detector begins to err (see its recall by length).
_WINDOW = 80
_TAIL = 25

_NOT_PROSE = re.compile(
    r"`[^`\n]*`"  # inline code
    r"|\bhttps?://\S+|\bwww\.\S+|\S+@\S+\.\w+"  # addresses
    r"|\$\$.*?\$\$|\$(?=\S)[^$\n]+(?<=\S)\$(?!\d)|\\\(.*?\\\)|\\\[.*?\\\]"  # LaTeX; "$5 or $10" is none (Pandoc's rule)
    r"|«[^»]*»|“[^”]*”|\"[^\"\n]*\""  # quotations
    r"|<[^>\n]{1,200}>"  # mark-up
    r"|\x00"  # breaks the detector
    r"|^[ \t]*(?:[-*•–]|\d+[.)])[ \t]+\S+(?:[ \t]+\S+){0,3}[ \t]*$",  # list items of up to four words: names, mostly
    re.DOTALL | re.MULTILINE,
)


class Verdict(enum.Enum):
    """French, foreign, or too little prose to tell."""

    FRENCH = "fr"
    FOREIGN = "foreign"
    UNDECIDED = "undecided"


def prose(text: str) -> str:
    """The text without what is not prose, white space folded."""
    return " ".join(_NOT_PROSE.sub(" ", text).split())


def letters(text: str) -> int:
    """How many letters."""
    return sum(map(str.isalpha, text))


def enough(text: str) -> bool:
    """Whether the detector has enough to go by. Scripts of South and Southeast Asia write vowels as marks, which count."""
    count = letters(text)
    return count >= MIN_LETTERS or count + sum(map(_vowel, text)) >= MIN_LETTERS


def _vowel(character: str) -> bool:
    # The blocks from Devanagari to Tai Tham: neither accents on Latin letters nor the selectors that colour emoji.
    return "\u0900" <= character <= "\u1aaf" and unicodedata.category(character)[0] == "M"


class Detector:
    """Judges prose. `margin` is how far another language's score must lie above that of French to count (0 to 1)."""

    def __init__(self, margin: float = 0.05) -> None:
        eldc.init()
        # An instance of our own: eldc's set_* functions are global, and another user of the process could change them.
        self._eldc = eldc.instance()
        self._eldc.set_scores(20)
        self._margin = margin

    def judge(self, text: str) -> Verdict:
        """The verdict on a sentence; one foreign window makes a long sentence foreign."""
        clean = prose(text)
        if not enough(clean):
            return Verdict.UNDECIDED
        verdicts = [self._window(window) for window in _windows(clean)]
        return next((known for known in (Verdict.FOREIGN, Verdict.FRENCH) if known in verdicts), Verdict.UNDECIDED)

    def _window(self, text: str) -> Verdict:
        if not enough(text):
            return Verdict.UNDECIDED
        scores = self._eldc.detect_details(text).scores
        if not scores:  # a script the detector does not know is not French either
            return Verdict.UNDECIDED if _latin(text) else Verdict.FOREIGN
        best = max(scores.values())
        return Verdict.FRENCH if best - scores.get("fr", 0.0) <= self._margin else Verdict.FOREIGN


def _latin(text: str) -> bool:
    # The blocks up to "Latin Extended-B", and "Latin Extended Additional".
    latin = sum(
        character.isalpha() and (character <= "\u024f" or "\u1e00" <= character <= "\u1eff") for character in text
    )
    return latin * 2 > letters(text)


def _windows(text: str) -> list[str]:
    """The text in pieces of about `_WINDOW` characters, even in size so that no short tail is judged alone."""
    count = 1 if len(text) <= _WINDOW + _TAIL else -(-len(text) // _WINDOW)
    windows, start = [], 0
    for step in range(1, count):
        stop = step * len(text) // count
        space = text.rfind(" ", start + 1, stop + 1)
        stop = space if space > start else stop
        windows.append(text[start:stop])
        start = stop
    return [*windows, text[start:]]
