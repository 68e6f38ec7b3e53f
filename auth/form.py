"""The body of a token request: `application/x-www-form-urlencoded`, each field once (RFC 6749 §3.2 and appendix B)."""

import re
from urllib.parse import parse_qsl

from auth.errors import InvalidRequest, InvalidScope

MAX_BODY_BYTES = 16 * 1024
_MAX_FIELDS = 32
# RFC 6749 §3.3: scope-tokens of printable ASCII without `"` and `\`, one space between them.
_SCOPE = re.compile(r"[\x21\x23-\x5B\x5D-\x7E]+( [\x21\x23-\x5B\x5D-\x7E]+)*")


def parse(content_type: str, body: bytes) -> dict[str, str]:
    """Give the fields of a form; raises InvalidRequest. Empty fields count as absent (RFC 6749 §3.2)."""
    if content_type.split(";")[0].strip().lower() != "application/x-www-form-urlencoded":
        raise InvalidRequest("The body must be application/x-www-form-urlencoded.")
    try:
        pairs = parse_qsl(body.decode(), strict_parsing=True, errors="strict", max_num_fields=_MAX_FIELDS)
    except ValueError as error:  # not UTF-8, no `=`, or too many fields
        raise InvalidRequest("The body cannot be read as a form in UTF-8.") from error
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise InvalidRequest("A field is given twice.")
    return fields


def required(fields: dict[str, str], name: str) -> str:
    """Give a field; raises InvalidRequest when it is absent."""
    if name not in fields:
        raise InvalidRequest(f"The field {name!r} is missing.")
    return fields[name]


def narrowed(asked: str | None, granted: frozenset[str]) -> frozenset[str]:
    """Give the scopes asked for, or all that are granted when none are; raises InvalidScope for more than that."""
    if asked is None:
        return granted
    if _SCOPE.fullmatch(asked) is None or not granted.issuperset(asked.split(" ")):
        raise InvalidScope("The scope is malformed or more than you may have.")
    return frozenset(asked.split(" "))
