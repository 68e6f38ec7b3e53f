"""A token from `/auth/token`, for the commands that are clients of the gateway."""

from __future__ import annotations

import getpass
import json
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

from gateway.settings import BadSettings

_SECONDS = 15
_RENEWED = 0.8  # of a token's life has passed when it is renewed


class Away(BadSettings):
    """Nobody answers there now; that may change."""


def token(base_url: str, user: str, password: str | None = None) -> str:
    """An access token by the password grant; see `Login`."""
    return Login(base_url, user, password).token


class Login:
    """A user who has logged in, and goes on by refresh tokens."""

    def __init__(self, base_url: str, user: str, password: str | None = None) -> None:
        """Asks for the password on the terminal unless it is given.

        Raises BadSettings with one sentence when the gateway refuses, Away when it is not there.
        """
        self._url = f"{base_url}/auth/token"
        self._take(
            {
                "grant_type": "password",
                "username": user,
                "password": password or getpass.getpass(f"Password of {user}: "),
            }
        )

    def current(self) -> str:
        """An access token that holds for a while yet; raises BadSettings."""
        if time.monotonic() >= self._renew_at:
            self._take({"grant_type": "refresh_token", "refresh_token": self._refresh})
        return self.token

    def _take(self, form: dict[str, str]) -> None:
        granted = _granted(self._url, form)
        self.token, self._refresh = str(granted["access_token"]), str(granted["refresh_token"])
        self._renew_at = time.monotonic() + float(granted["expires_in"]) * _RENEWED


def _granted(url: str, form: dict[str, str]) -> dict[str, Any]:
    if not url.startswith(("http://", "https://")):
        raise BadSettings(
            f"--base-url holds {url.removesuffix('/auth/token')!r}, but must begin with http:// or https://."
        )
    try:
        with urllib.request.urlopen(url, urllib.parse.urlencode(form).encode(), timeout=_SECONDS) as answer:  # noqa: S310
            return dict(json.load(answer))
    except urllib.error.HTTPError as error:
        with error:
            raise BadSettings(f"{url} refuses the login: {_reason(error)}") from None
    except OSError as error:
        raise not_reached(url, error) from None


def not_reached(url: str, error: OSError) -> BadSettings:
    """Why there was no answer: Away, but for what no waiting changes."""
    reason = getattr(error, "reason", error)
    if isinstance(reason, ssl.SSLCertVerificationError):
        return BadSettings(
            f"{url} shows a certificate that is not trusted here ({reason.verify_message}): use the name that it is for, or name "
            "the file of its authority in SSL_CERT_FILE."
        )
    if isinstance(reason, ssl.SSLError):
        return BadSettings(f"{url} does not speak TLS ({reason.reason}): is it http:// and not https://?")
    return Away(f"{url} cannot be reached ({reason}): is the gateway running?")


def _reason(error: urllib.error.HTTPError) -> str:
    try:
        body = json.load(error)
    except json.JSONDecodeError:
        return f"status {error.code}"
    return str(body.get("error_description") or body.get("error", {}).get("message") or f"status {error.code}")
