"""A token from `/auth/token`, for the commands that are clients of the gateway."""

from __future__ import annotations

import getpass
import json
import urllib.error
import urllib.parse
import urllib.request

from gateway.settings import BadSettings

_SECONDS = 15


def token(base_url: str, user: str, password: str | None = None) -> str:
    """An access token by the password grant; asks for the password on the terminal unless it is given.

    Raises BadSettings with one sentence when the gateway refuses or is not there.
    """
    form = {
        "grant_type": "password",
        "username": user,
        "password": password or getpass.getpass(f"Password of {user}: "),
    }
    url = f"{base_url}/auth/token"
    if not url.startswith(("http://", "https://")):
        raise BadSettings(f"--base-url holds {base_url!r}, but must begin with http:// or https://.")
    try:
        with urllib.request.urlopen(url, urllib.parse.urlencode(form).encode(), timeout=_SECONDS) as answer:  # noqa: S310
            return str(json.load(answer)["access_token"])
    except urllib.error.HTTPError as error:
        with error:
            raise BadSettings(f"{url} refuses the login: {_reason(error)}") from None
    except OSError as error:
        raise BadSettings(f"{url} cannot be reached ({error}): is the gateway running?") from None


def _reason(error: urllib.error.HTTPError) -> str:
    try:
        body = json.load(error)
    except json.JSONDecodeError:
        return f"status {error.code}"
    return str(body.get("error_description") or body.get("error", {}).get("message") or f"status {error.code}")
