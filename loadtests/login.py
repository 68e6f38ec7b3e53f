"""The token that one caller's questions share in a process: logins are limited for each address, and a token carries any load."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from loadtests.answer import Failed, parsed

_RENEW_AT = 0.8  # of a token's life
_UNSAID = 60.0  # seconds, for a token whose life is not told


@dataclass(frozen=True)
class Grant:
    """What a login gives; `lifetime` in seconds."""

    token: str
    lifetime: float


Exchange = Callable[[Mapping[str, str]], Grant]


def grant(body: bytes) -> Grant:
    """Read the token route's answer (RFC 6749, section 5.1). Raises Failed when there is no token in it."""
    answer = parsed(body)
    if not isinstance(answer.get("access_token"), str):
        raise Failed("login without access_token")
    lifetime = answer.get("expires_in")
    return Grant(answer["access_token"], float(lifetime) if isinstance(lifetime, int | float) else _UNSAID)


@dataclass(frozen=True)
class Credentials:
    """A token (or API key) that is used as it is, or a user and a password."""

    user: str
    password: str = field(repr=False)
    token: str = field(repr=False)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Credentials:
        """Raise SystemExit with one sentence when the environment has neither."""
        user, password, token = (
            environment.get(f"PASSERELLE_LOAD_{part}", "") for part in ("USER", "PASSWORD", "TOKEN")
        )
        if not token and not (user and password):
            raise SystemExit(
                "loadtests: set PASSERELLE_LOAD_USER and PASSERELLE_LOAD_PASSWORD, or PASSERELLE_LOAD_TOKEN, in the environment, "
                "or name a file of callers with --tenants"
            )
        return cls(user, password, token)


class Login:
    """Gives a token that will not expire within the next request; logs in when it has none. `clock` is in seconds."""

    def __init__(self, credentials: Credentials, clock: Callable[[], float] = time.monotonic) -> None:
        self._credentials, self._clock = credentials, clock
        self._one = threading.Lock()  # in a process of locust's: gevent's
        self._token, self._renew_at = credentials.token, float("inf") if credentials.token else 0.0

    def token(self, exchange: Exchange) -> str:
        """The token; `exchange` posts the form to the token route and gives what it grants, or raises Failed."""
        with self._one:
            if self._clock() >= self._renew_at:
                form = {
                    "grant_type": "password",
                    "username": self._credentials.user,
                    "password": self._credentials.password,
                }
                given = exchange(form)
                self._token, self._renew_at = given.token, self._clock() + _RENEW_AT * given.lifetime
            return self._token

    def refused(self, token: str) -> None:
        """The server said 401 to this token: log in anew, unless somebody has already."""
        if token == self._token and not self._credentials.token:
            self._renew_at = 0.0
