"""Where a French sentence ends, decided on text that is still arriving.

A sentence ends at a line break, or at `. ! ? …` (closing quotes and brackets included) followed by white space, unless the
full stop belongs to an abbreviation, an initial or the number of a list item, or stands in a quotation, a formula or code.
"""

from __future__ import annotations

import re

_CLOSERS = r"[»\"”’')\]*_]*"
_END = re.compile(rf"[\n.!?…](?:(?<=\n)|[.!?…]*{_CLOSERS}(?=\s))")  # begins with a set: the search for one is fast
# "… ? »": after a space, the guillemet that closes what the sentence opened still belongs to it, and may be on its way.
_GUILLEMET = re.compile(rf"[^\S\n]»{_CLOSERS}(?=\s)")
_GUILLEMET_TO_COME = re.compile(rf"[^\S\n](?:»{_CLOSERS})?\Z")
_SENTENCE_MARK = re.compile(r"[\n.!?…]").search
_BEFORE_WORD = re.compile(r"[\s(«\"'’]")
_ITEM = re.compile(r"(?:\d{1,3}(?:\.\d{1,3})*|[ivxl]{1,5})")
# What may be part of an end whose white space is still to come, or of the quotation around it.
_UNFINISHED = ".!?…»\"”’')]*_> \t\u00a0\u202f\n"
_MARK = re.compile(r"[«“\\$`\"]")
# Quotations and formulas may hold several sentences and lines; straight quotes, code and formulas within a line end with it.
_SPANS = (("«", "»"), ("“", "”"), ("\\[", "\\]"))
_IN_LINE = ("`", '"')
# After a line break: an empty line, or the mark of a code fence, ends a quotation that was left open.
_BLOCK = re.compile(r"[ \t>]*(\n|`|~|\S|\Z)")

# Common French abbreviations that take a full stop (Lexique des règles typographiques, "Abréviations").
ABBREVIATIONS = frozenset(
    "m mm mgr dr pr me st ste etc cf p pp ex env art al fig chap vol n no tél max min av apr "
    "janv févr avr juil sept oct nov déc mme mmes mlle mlles mrs vs éd ibid cit hab bd bld bât dép réf resp qqch qqn "
    "suiv approx obs à-d".split()
)


def end(text: str, start: int, limit: int) -> int | None:
    """The index just after the first sentence of `text[start:]`, or None while it is incomplete.

    What is held back is bounded: see `cut`.
    """
    stop = whole(text, start, limit)
    return cut(text, start, limit) if stop is None else stop


def whole(text: str, start: int, limit: int, seen: int = 0) -> int | None:
    """Where the first sentence of `text[start:]` has its end, if that is known and within `limit` characters.

    Nothing before `seen` is looked at again: see `open_from`.
    """
    for match in _END.finditer(text, max(start, seen)):
        stop = match.end()
        line = match.group() == "\n"
        if not line and text.rfind("«", start, stop) > text.rfind("»", start, stop):
            if _GUILLEMET_TO_COME.match(text, stop):
                return None
            guillemet = _GUILLEMET.match(text, stop)
            stop = guillemet.end() if guillemet else stop
        if stop - start > limit:
            return None
        if _within(text, start, stop, line=line):
            block = _BLOCK.match(text, stop) if line else None
            if block and not block.group(1):
                return None
            if not block or block.group(1) not in "\n`~":
                continue
        if line or not _belongs_to_word(text, start, match.start()):
            return stop
    return None


def cut(text: str, start: int, limit: int) -> int | None:
    """Where a sentence longer than `limit` characters is cut: at the last white space within the limit, or at the limit."""
    if len(text) - start <= limit:
        return None
    space = max(text.rfind(" ", start, start + limit), text.rfind("\n", start, start + limit))
    return space + 1 if space > start else start + limit


def settled(piece: str) -> bool:
    """Whether no sentence can end in or just after the piece."""
    return _SENTENCE_MARK(piece) is None


def open_from(text: str, came: str, seen: int) -> int:
    """The next `seen` of `text`, whose last piece is `came` and in which no sentence ended: an end may still begin there."""
    settled = came.rstrip(_UNFINISHED)
    return len(text) - len(came) + len(settled) if settled else seen


def _within(text: str, start: int, stop: int, *, line: bool) -> bool:
    """Whether a quotation, a formula or code is open at `stop`; a line break ends what does not span lines."""
    if _MARK.search(text, start, stop) is None:
        return False
    for opening, closing in _SPANS:
        opened = text.rfind(opening, start, stop)
        if opened >= 0 and opened > text.rfind(closing, start, stop):
            return True
    if text.find("$$", start, stop) >= 0 and text.count("$$", start, stop) % 2:
        return True
    if line:
        return False
    head = max(start, text.rfind("\n", start, stop) + 1)
    return any(text.find(mark, head, stop) >= 0 and text.count(mark, head, stop) % 2 == 1 for mark in _IN_LINE)


def _belongs_to_word(text: str, start: int, stop: int) -> bool:
    if text[stop] != ".":
        return False
    word = _BEFORE_WORD.split(text[max(start, stop - 24) : stop])[-1].lower()
    if not word:
        return False
    last = word.rpartition(".")[2].strip("-")
    # "1." opens a list item only at the head of a line; "en 1998." ends a sentence.
    item = _ITEM.fullmatch(word) and not text[start : stop - len(word)].strip(" \t#*_>-\n")
    return bool(item) or last in ABBREVIATIONS or (len(last) == 1 and last.isalpha())
