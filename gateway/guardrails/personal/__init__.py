"""Personal data in French text: read `find` first, then one file for each family.

Patterns propose; check digits (python-stdnum), layouts and the words around decide. What a pattern alone cannot tell, such as
a name without a title, is left to a model of language. Every pattern is bounded, so the time is linear in the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from gateway.guardrails.personal import network, numbers, papers, people, phones, places
from gateway.guardrails.personal.found import KINDS, Found, disjoint

__all__ = ["KINDS", "Found", "disjoint", "find"]

_SPACES = "\t\u00a0\u00ad\u180e\u200b\u200c\u200d\u202f\u205f\u2060\u3000\ufeff" + "".join(
    map(chr, range(0x2000, 0x200B))
)
_HYPHENS = "\u2010\u2011\u2012\u2013\u2014\u2015\u2212\ufe58\ufe63\uff0d"
_QUOTES = "\u2018\u2019\u02bc\uff07"
# One character for one, so that places in the plain text are places in the text.
_PLAIN = (
    dict.fromkeys(map(ord, _SPACES), " ")
    | dict.fromkeys(map(ord, _HYPHENS), "-")
    | dict.fromkeys(map(ord, _QUOTES), "'")
    | {0xFF00 + code: chr(0x20 + code) for code in range(1, 0x5F)}
    | {ord("\u2024"): ".", ord("\u2044"): "/"}
)
_UNUSUAL = re.compile("[" + "".join(re.escape(chr(code)) for code in _PLAIN) + "]")
_DIGIT = re.compile("[0-9]")


def find(text: str) -> list[Found]:
    """Personal data, in order and without overlaps. Pure; time linear in the text."""
    plain = text.translate(_PLAIN) if _UNUSUAL.search(text) else text
    return disjoint(_candidates(plain), len(text))


def _candidates(text: str) -> Iterator[Found]:
    """What the detectors propose, the surest first."""
    yield from network.emails(text)
    digits = len(_DIGIT.findall(text))
    if digits >= 9:
        yield from numbers.search(text)
        yield from phones.search(text)
    if digits:
        yield from network.ips(text)
        yield from places.search(text)
        yield from papers.search(text)
    yield from people.search(text)
