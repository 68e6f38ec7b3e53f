"""Is a piece of text French?

One class decides, `Detector`, so that the detector behind it (eldc, whose version is locked) can be replaced. What is not
prose is taken out first: code, addresses, formulas, names in lists and quotations are not drift. Under `MIN_LETTERS` letters
the detector is not asked: it would guess. Where it is unsure, the words decide (`_TELLTALES`, `_MARKERS`).
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
# Best first; a language that is not among them is far behind.
_SCORES = 8
# Added to the margin for the end of a sentence that is still arriving: what is doubtful there waits for the sentence's end.
_EARLY = 0.1
# Below this best score (0 to 1) the detector knows no language in the text: labels, names.
_UNKNOWN = 0.4

_NOT_PROSE = re.compile(
    r"`[^`\n]*`"  # inline code
    r"|\bhttps?://\S+|\bwww\.\S+|\S+@\S+\.\w+"  # addresses
    r"|\$\$.*?\$\$|\$(?=\S)[^$\n]+(?<=\S)\$(?!\d)|\\\(.*?\\\)|\\\[.*?\\\]"  # LaTeX; "$5 or $10" is none (Pandoc's rule)
    r"|\\[a-zA-Z]+\*?(?:\{[^{}\n]*\})?"  # its commands, where a formula is cut
    r"|«[^»]*»|“[^”]*”|\"[^\"\n]*\""  # quotations
    r"|<[^>\n]{1,200}>"  # mark-up
    r"|\x00"  # breaks the detector
    r"|(?P<cell>(?<=\|)[^\S\n]*(?:[^\s|]+[^\S\n]+){0,3}[^\s|]*[^\S\n]*(?=\|))"  # cells and list items of up to four words:
    r"|(?P<item>^[ \t]*(?:[-*•–]|\d+[.)])[ \t]+\S+(?:[ \t]+\S+){0,3}[ \t]*$)",  # names, mostly; see _blank
    re.DOTALL | re.MULTILINE,
)
# What none of the above is without; text that has none of it is spared the search.
_MARK = re.compile(r"[`@$\\«“\"<|\x00]")
_ITEM = re.compile(r"[ \t]*(?:[-*•–]|\d+[.)])[ \t]")
# What may be the beginning of something that is not prose and whose end is still to come.
_OPENED = re.compile(r"[`$\\«“\"<|]")

_NO_ASCII_LETTER = bytes(each for each in range(256) if not chr(each).isascii() or not chr(each).isalpha())
_LETTER = re.compile(r"[^\W\d_]")
# The blocks from Devanagari to Tai Tham: neither accents on Latin letters nor the selectors that colour emoji.
_VOWELLED = re.compile("[\u0900-\u1aaf]")
# Kana, Han and Hangul, where a sign stands for a syllable or a word: as much as three letters.
_SYLLABLES = re.compile("[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")

# Frequent words that are no words of French, of the languages it drifts to and of two that the detector does not know.
_TELLTALES = {
    "en": frozenset(
        "the and of you your we our this that these those with from will would should could is are was were have has been "
        "its their they how what when which who where there here for to by be not into than soon please".split()
    ),
    "es": frozenset("el los por muy pero está también más según hasta desde una sus usted esto ser puede".split()),
    "it": frozenset("che di è gli della delle nel per più anche sono questo questa una può come degli".split()),
    "pt": frozenset("não uma um são você para também mais ao pelo pela dos das seu sua como pode".split()),
    "ht": frozenset(
        "anpil pou yon moun ak gen mwen ap nan fè byen bezwen kapab poukisa kreyòl byento travay dwa tout".split()
    ),
    "oc": frozenset(
        "lo los amb dins aquò aqueste aquesta tanben vòstra vòstre nòstra nòstre lèu òc dels fòrça pòt".split()
    ),
}
_TELLING = frozenset[str]().union(*_TELLTALES.values())
# Frequent words of French that are no words of the languages near it.
_MARKERS = frozenset(
    "et les des du une dans pour avec sur sont est qui aux ce cette nous vous il elle je ou où dont mais".split()
)
# These, too, speak for French as long as nothing speaks for another language.
_HINTS = _MARKERS | frozenset("le la de un en au que à se ne pas par il on son sa ses".split())
_ELISION = re.compile(r"\b(?:[cdjlmnst]|qu)['’]", re.IGNORECASE)
# Lower-case words with letters that French does not write.
_NOT_FRENCH = re.compile("(?<!\\w)[a-zß-ÿ]*[áåãìíñòóõöøúýß\u0100-\u0151\u0154-\u024f][a-zß-ÿ]*")
# A run of words with capitals: the name of a person, a work, a company or a product, not to be translated.
_NAME = r"[A-ZÀ-Þ](?=[\w’'-]*[a-zß-ÿ])[\w’'-]*"
_TITLE = re.compile(
    rf"\b{_NAME}:?(?:[ ](?:(?:of|the|and|de|del|di|da|dos|von|van|der|y|e|&)[ ]){{0,3}}"
    rf"{_NAME}:?){{1,8}}"
)
_LOWER = re.compile(r"(?<!\w)[^\W\d_A-ZÀ-Þ][\w’'-]*")
# Where one of these stands, a run of words with capitals is a headline more often than a name.
_SENTENCE_WORDS = _TELLTALES["en"] - {"the", "of", "and"}
# A line of code outside a fence: it ends as a statement does and holds operators.
_STATEMENT = re.compile(r"^(?=.*[=<>(){}\[\]_]).*(?<![\s»])[;{}][ \t]*$", re.MULTILINE)


class Verdict(enum.Enum):
    """French (or a language that was allowed), foreign, or too little prose to tell."""

    FRENCH = "fr"
    FOREIGN = "foreign"
    UNDECIDED = "undecided"


def prose(text: str) -> str:
    """The text without what is not prose, white space folded."""
    return " ".join((text if _bare(text) else _NOT_PROSE.sub(_blank, text)).split())


def _blank(match: re.Match[str]) -> str:
    named = match.lastgroup and not _SENTENCE_WORDS.isdisjoint(match.group().split())
    return match.group() if named else " "


def _bare(text: str) -> bool:
    """Whether nothing in the text can be other than prose; a list item may begin after each line break."""
    return not (
        _MARK.search(text) or "://" in text or "www." in text or _ITEM.match(text) or text.find("\n", 0, -1) >= 0
    )


def letters(text: str) -> int:
    """How many letters."""
    return len(_LETTER.findall(text))


def has_letters(text: str, count: int) -> bool:
    """Whether it has so many letters."""
    return _ascii_letters(text) >= count or letters(text) >= count


def _ascii_letters(text: str) -> int:
    # Counting bytes is ten times as fast, and most of French is ASCII.
    return len(text.encode("utf-8", "ignore").translate(None, _NO_ASCII_LETTER))


def enough(text: str) -> bool:
    """Whether the detector has enough to go by. Scripts of South and Southeast Asia write vowels as marks, which count."""
    if _ascii_letters(text) >= MIN_LETTERS:
        return True
    if text.isascii():
        return False
    marks = sum(unicodedata.category(each)[0] == "M" for each in _VOWELLED.findall(text))
    return letters(text) + marks + 2 * len(_SYLLABLES.findall(text)) >= MIN_LETTERS


class Detector:
    """Judges prose. `margin` is how far another language's score must lie above that of French to count (0 to 1)."""

    def __init__(self, margin: float = 0.05) -> None:
        eldc.init()
        # An instance of our own: eldc's set_* functions are global, and another user of the process could change them.
        self._eldc = eldc.instance()
        self._eldc.set_scores(_SCORES)
        self._margin = margin

    def judge(self, text: str, allowed: frozenset[str] = frozenset()) -> Verdict:
        """The verdict on a sentence; one foreign window makes a long sentence foreign. `allowed`: ISO 639-1 codes."""
        language = self.language(text, allowed)
        if language == "fr":
            return Verdict.FRENCH
        return Verdict.FOREIGN if language else Verdict.UNDECIDED

    def language(self, text: str, allowed: frozenset[str] = frozenset()) -> str:
        """The code of the first foreign window (`?` where nobody knows), `fr` for French or allowed, "" where undecided."""
        clean = prose(text)
        if not enough(clean):
            return ""
        found = ""
        telling = not _TELLING.isdisjoint(clean.lower().split())
        for window in _windows(clean):
            language = self._window(window, allowed, self._margin, telling=telling)
            if language == "fr":
                found = language
            elif language:
                return language
        return found

    def drifts(self, text: str, allowed: frozenset[str] = frozenset()) -> bool:
        """Whether a sentence that is still arriving has, at its end, clearly left French. Ends between words."""
        clean = text if _bare(text) else _closed(prose(text))
        if len(clean) > _WINDOW:
            clean = clean[clean.find(" ", len(clean) - _WINDOW) + 1 :]
        words = clean.lower().split()
        telling = not _TELLING.isdisjoint(words)
        if self._window(clean, allowed, self._margin + _EARLY, telling=telling) in {"", "fr"}:
            return False
        return telling or sum(word in _HINTS for word in words) < 2

    def _window(self, text: str, allowed: frozenset[str], margin: float, *, telling: bool) -> str:
        """The language of one window; `telling`: it may hold words of `_TELLTALES`."""
        if not enough(text):
            return ""
        language = self._scored(text, allowed, margin)
        if language == "fr":
            return (_told(text, allowed, 3) if telling and margin < 1 else "") or language
        return self._without_names(text, language, allowed, margin) if language else ""

    def _scored(self, text: str, allowed: frozenset[str], margin: float) -> str:
        scores = self._eldc.detect_details(text).scores
        if not scores:  # a script the detector does not know is not French either
            return "" if _latin(text) else "?"
        best = next(iter(scores))
        if best == "fr" or best in allowed:
            return "fr"
        most = scores[best]
        if most - max([scores.get("fr", 0.0), *(scores.get(each, 0.0) for each in allowed)]) > margin:
            return str(best) if most >= _UNKNOWN else _told(text, allowed, 1)
        foreign = margin < 1 and (_told(text, allowed, 1) or _NOT_FRENCH.search(text) is not None)
        return str(best) if foreign else "fr"

    def _without_names(self, text: str, language: str, allowed: frozenset[str], margin: float) -> str:
        """A second look at foreign text without the names and the code in it: `fr` or "" where they alone were foreign."""
        rest = _STATEMENT.sub(" ", text)
        if rest != text and not enough(rest):
            return ""
        rest = _TITLE.sub(" ", rest)
        if rest == text or not _SENTENCE_WORDS.isdisjoint(text.lower().split()):
            return language
        if enough(rest):
            second = self._scored(rest, allowed, margin)
            return second if second in {"", "fr"} else language
        if _french(rest):
            return "fr"
        return language if len(_LOWER.findall(rest)) > 1 else ""


def _closed(text: str) -> str:
    opened = _OPENED.search(text)
    return text[: opened.start()] if opened else text


def _told(text: str, allowed: frozenset[str], least: int) -> str:
    """The language of which the text, names apart, has `least` telltale words, or ""."""
    words = set(re.findall(r"[^\W\d_]+", _TITLE.sub(" ", text).lower()))
    return next((code for code, known in _TELLTALES.items() if code not in allowed and len(known & words) >= least), "")


def _french(text: str) -> bool:
    words = set(text.lower().split())
    return len(_MARKERS & words) + len(_ELISION.findall(text)) >= 2 and _TELLING.isdisjoint(words)


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
