"""Addresses on the network: e-mail, also as people disguise it, and IP."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator

from gateway.guardrails.personal.found import EMAIL, IP, Found, each, near

_EMAIL = re.compile(
    r"(?<![\w.+\-])[\w.+\-]{1,64}(?<![.])@(?:[^\W_](?:[\w\-]{0,61}[^\W_])?\.){1,6}(?!(?:local|internal|localhost)\b)"
    r"[^\W\d_]{2,24}(?![\w\-])"
)
_TOP = r"(?:fr|com|net|org|eu|be|ch|lu|re|info|io|me|pro|edu|bzh|ca|uk|de|es|it)\b"
_DOT = r"(?:\.| ?[\[({] ?(?:point|dot|\.) ?[\])}] ?| point | dot )"
_DISGUISED = re.compile(
    rf"(?<![\w.+\-])[\w.+\-]{{1,64}}(?:(?: point | tiret | underscore )[\w\-]{{1,30}}){{0,3}}"
    rf"(?: ?[\[({{] ?(?:at|chez|arobase?|@) ?[\])}}] ?| arobase? )"
    rf"(?:[\w\-]{{1,40}}{_DOT}){{1,4}}{_TOP}",
    re.IGNORECASE,
)
_DISGUISE = re.compile(r"arobas|[\[({] ?(?:at|chez|@) ?[\])}]", re.IGNORECASE)


def emails(text: str) -> Iterator[Found]:
    """Every e-mail address."""
    if "@" in text:
        for match in _EMAIL.finditer(text):
            if not match.group().lower().startswith("git@"):  # a repository
                yield Found(EMAIL, *match.span())
    if _DISGUISE.search(text):
        for match in _DISGUISED.finditer(text):
            yield Found(EMAIL, *match.span())


_V4 = re.compile(r"[0-9](?<![\w].)(?<![\w][.\-].)[0-9]{0,2}(?:\.[0-9]{1,3}){3}(?![\w])(?!\.[0-9]|\-[0-9])")
_V6 = re.compile(r"(?<![\w:.])(?=[0-9A-Fa-f]{1,4}:)[0-9A-Fa-f:]{6,39}(?![\w:])")
_VERSION = re.compile(
    r"(?:\bv|version|release|build|firmware|micrologiciel|pilote|mise à jour|maj|article|chapitre|section|§)\W{0,3}$",
    re.IGNORECASE,
)
_PRODUCT = re.compile(r"[A-Z][\w\-]+ $")
_IP_WORDS = re.compile(
    r"\bip(?:v4)?\b|adresse|connexion|connect|depuis|serveur|h[ôo]te|r[ée]seau|bloqu|machine|\bping|\bvpn|\bssh\b|routeur|poste\b",
    re.IGNORECASE,
)
# Public resolvers, and what routers are set to when they are sold.
_EVERYBODYS = frozenset(
    "8.8.8.8 8.8.4.4 1.1.1.1 1.0.0.1 9.9.9.9 208.67.222.222 192.168.0.1 192.168.1.1 192.168.1.254 10.0.0.1".split()
)


def _is_v4(text: str, match: re.Match[str]) -> bool:
    value = match.group()
    try:
        address = ipaddress.IPv4Address(value)
    except ValueError:
        return False
    nobodys = address.is_loopback or address.is_unspecified or address.is_multicast or value.startswith("255.")
    network = value.endswith((".0", ".255"))
    if nobodys or network or value in _EVERYBODYS or _VERSION.search(text[max(0, match.start() - 20) : match.start()]):
        return False
    # Versions have small numbers in front (4.18.0.1) or the name of a product before them.
    named = _PRODUCT.search(text[max(0, match.start() - 20) : match.start()])
    usual = value.startswith("10.") or int(value.partition(".")[0]) >= 32
    return (usual and not named) or near(_IP_WORDS, text, *match.span())


def _is_v6(text: str, match: re.Match[str]) -> bool:
    value = match.group()
    try:
        address = ipaddress.IPv6Address(value)
    except ValueError:
        return False
    if value.endswith("::") and text[match.end() : match.end() + 1] == "/":
        return False  # a network
    # "a::b" is a name in more than one programming language.
    return len(value.partition(":")[0]) >= 3 and any(map(str.isdigit, value)) and not address.is_multicast


def ips(text: str) -> Iterator[Found]:
    """Every address of a machine; loopback, masks, networks and what everybody uses are nobody's."""
    if text.count(".") >= 3:
        for match in each(_V4, text, _is_v4):
            yield Found(IP, *match.span())
    if text.count(":") >= 2:
        for match in each(_V6, text, _is_v6):
            yield Found(IP, *match.span())
