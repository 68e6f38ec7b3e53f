"""The texts in a JSON value."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

# A file in the text itself (RFC 2397): no words, and often megabytes.
_FILE: Final = "data:"


def every(value: Any) -> Iterator[str]:
    """Each text in it, but neither keys nor files."""
    if isinstance(value, str):
        if not value.startswith(_FILE):
            yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from every(each)
    elif isinstance(value, list):
        for each in value:
            yield from every(each)


def changed(value: Any, change: Callable[[str], str]) -> Any:
    """The same value with each text changed, but neither keys nor files."""
    if isinstance(value, str):
        return value if value.startswith(_FILE) else change(value)
    if isinstance(value, dict):
        return {key: changed(each, change) for key, each in value.items()}
    if isinstance(value, list):
        return [changed(each, change) for each in value]
    return value
