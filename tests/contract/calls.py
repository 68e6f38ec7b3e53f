"""A call that any client library can play, and what a developer sees of it: read this first, then `scenario.py`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Call:
    """One call of a library.

    `method` is its dotted name, `named` an argument without a name, `body` the named ones. `leave_after` is the number of
    chunks after which the caller abandons a stream.
    """

    method: str
    body: dict[str, Any] | None = None
    named: str | None = None
    max_retries: int = 0
    leave_after: int | None = None
    base_url: str = ""
    api_key: str = ""


@dataclass
class Seen:
    """What came of it. The objects are the library's, written as JSON with the fields that the gateway sent.

    `error` holds class, status, code, type, param, message, request_id and retry_after of what was raised.
    """

    answer: dict[str, Any] | None = None
    chunks: list[dict[str, Any]] = field(default_factory=list)
    items: list[dict[str, Any]] = field(default_factory=list)
    request_id: str | None = None
    error: dict[str, Any] | None = None


# A library at play: inside the context the client still lives, so that only the call itself can have closed a connection.
Sdk = Callable[[Call], AbstractAsyncContextManager[Seen]]
