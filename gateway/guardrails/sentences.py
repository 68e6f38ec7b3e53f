"""Where a French sentence ends, decided on text that is still arriving.

A sentence ends at a line break, or at `. ! ? …` (closing quotes and brackets included) followed by white space, unless the
full stop belongs to an abbreviation, an initial or the number of a list item.
"""

from __future__ import annotations

import re

_END = re.compile(r"\n|[.!?…]+(?:[\s\u00a0\u202f]?»|[\"”’')\]*_])*(?=\s)")
_CLOSING = re.compile(r"\s(?:»[\s»\"”’')\]*_]*)?\Z")
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
        if match.end() - start > limit or _may_close(text, start, match.end()):
            break
        if match.group().startswith("\n") or not _belongs_to_word(text, start, match.start()):
            return match.end()
    if len(text) - start <= limit:
        return None
    space = max(text.rfind(" ", start, start + limit), text.rfind("\n", start, start + limit))
    return space + 1 if space > start else start + limit


def _may_close(text: str, start: int, stop: int) -> bool:
    # "… ? »": the guillemet after the space still belongs to the sentence, and may be on its way.
    opened = text.rfind("«", start, stop) > text.rfind("»", start, stop)
    return opened and _CLOSING.match(text, stop) is not None


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
