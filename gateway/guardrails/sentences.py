"""Where a French sentence ends, decided on text that is still arriving.

A sentence ends at a line break, or at `. ! ? …` (closing quotes and brackets included) followed by white space, unless the
full stop belongs to an abbreviation, an initial or the number of a list item.
"""

from __future__ import annotations

import re

_CLOSERS = r"[»\"”’')\]*_]*"
_END = re.compile(rf"\n|[.!?…]+{_CLOSERS}(?=\s)")
# "… ? »": after a space, the guillemet that closes what the sentence opened still belongs to it, and may be on its way.
_GUILLEMET = re.compile(rf"[^\S\n]»{_CLOSERS}(?=\s)")
_GUILLEMET_TO_COME = re.compile(rf"[^\S\n](?:»{_CLOSERS})?\Z")
_WORD_BEFORE = re.compile(r"(?:^|[\s(«\"'’])([^\s(«\"'’]+)$")

# Common French abbreviations that take a full stop (Lexique des règles typographiques, "Abréviations").
ABBREVIATIONS = frozenset(
    "m mm mgr dr pr me st ste etc cf p pp ex env art al fig chap vol n no tél max min av apr "
    "janv févr avr juil sept oct nov déc".split()
)


def end(text: str, start: int, limit: int) -> int | None:
    """The index just after the first sentence of `text[start:]`, or None while it is incomplete.

    A sentence longer than `limit` characters ends at the last white space within the limit (or at the limit itself): what is
    held back is bounded.
    """
    for match in _END.finditer(text, start):
        stop = match.end()
        if match.group() != "\n" and text.rfind("«", start, stop) > text.rfind("»", start, stop):
            if _GUILLEMET_TO_COME.match(text, stop):
                break
            guillemet = _GUILLEMET.match(text, stop)
            stop = guillemet.end() if guillemet else stop
        if stop - start > limit:
            break
        if match.group() == "\n" or not _belongs_to_word(text, start, match.start()):
            return stop
    if len(text) - start <= limit:
        return None
    space = max(text.rfind(" ", start, start + limit), text.rfind("\n", start, start + limit))
    return space + 1 if space > start else start + limit


def _belongs_to_word(text: str, start: int, stop: int) -> bool:
    if text[stop] != ".":
        return False
    head = max(start, stop - 24)
    before = _WORD_BEFORE.search(text[head:stop])
    if before is None:
        return False
    word = before.group(1).lower()
    last = word.rpartition(".")[2]
    # "1." opens a list item only at the head of a line; "en 1998." ends a sentence.
    item = word.isdigit() and len(word) <= 3 and not text[start : head + before.start(1)].strip(" \t#*_>-")
    return item or last in ABBREVIATIONS or (len(last) == 1 and last.isalpha())
