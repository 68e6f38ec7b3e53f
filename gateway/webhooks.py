"""Webhooks: the configuration of who is told of a budget, and the signature that shows a receiver who tells it.

The headers are those of Standard Webhooks (https://www.standardwebhooks.com), so that its libraries can check them.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from datetime import datetime
from itertools import pairwise
from typing import Annotated, Final

from pydantic import AfterValidator, AnyHttpUrl, Field, Secret, SecretStr

from gateway.target import Part

Percent = Annotated[int, Field(ge=1, le=100)]
_PREFIX: Final = "whsec_"
_SHORTEST, _LONGEST = 24, 64  # bytes, by the specification


def _rising(percents: list[int]) -> list[int]:
    if any(first >= second for first, second in pairwise(percents)):
        raise ValueError("must be in rising order, each once")
    return percents


def _usable(secret: SecretStr) -> SecretStr:
    if not secret.get_secret_value().startswith(_PREFIX) or not _SHORTEST <= len(_key(secret)) <= _LONGEST:
        raise ValueError(f"must be {_PREFIX} and the base64 of {_SHORTEST} to {_LONGEST} random bytes")
    return secret


def _key(secret: SecretStr) -> bytes:
    """The bytes behind the prefix; none where that is no base64."""
    try:
        return base64.b64decode(secret.get_secret_value().removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        return b""


class Alerting(Part):
    """Each of `urls` is told when `percents` of a budget are spent; without any, nobody is.

    An address often holds a token of its own, so it is shown nowhere. `secret` signs what is sent.
    """

    urls: list[Secret[AnyHttpUrl]] = Field(default_factory=list)
    percents: Annotated[list[Percent], Field(min_length=1), AfterValidator(_rising)] = [80, 100]  # noqa: RUF012  # copied
    secret: Annotated[SecretStr, AfterValidator(_usable)] | None = None


def headers(message: str, at: datetime, body: bytes, secret: SecretStr | None) -> dict[str, str]:
    """What goes with `body`: the message's id, the same at each try, and, if there is a secret, when it was signed, and how."""
    sent = {"content-type": "application/json", "webhook-id": message}
    if secret is not None:
        timestamp = str(int(at.timestamp()))
        signed = hmac.digest(_key(secret), f"{message}.{timestamp}.".encode() + body, hashlib.sha256)
        sent |= {"webhook-timestamp": timestamp, "webhook-signature": f"v1,{base64.b64encode(signed).decode()}"}
    return sent
