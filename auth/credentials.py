"""Random credentials: how they look, and what of them is stored.

An API key is `psl_`, 256 random bits and a CRC-32, all in letters and digits: whoever scans text for leaked keys can tell one
from anything else, a typing error is found without asking anybody, and a double click selects it whole.
"""

import hashlib
import hmac
import re
import secrets
import string
import zlib
from pathlib import Path
from typing import Final

from auth.errors import BadConfiguration
from auth.new_file import new_file

KEY_PREFIX: Final = "psl_"
HINT: Final = 10  # characters of a key that are shown again
_DIGITS: Final = string.digits + string.ascii_uppercase + string.ascii_lowercase  # base 62
_RANDOM, _CHECK = 43, 6  # digits that hold 256 bits, and 32
_KEY: Final = re.compile(rf"{KEY_PREFIX}[0-9A-Za-z]{{{_RANDOM + _CHECK}}}", re.ASCII)
_LEAST_SECRET: Final = 32  # bytes


def new_key() -> str:
    """Make an API key."""
    body = KEY_PREFIX + _base62(secrets.randbits(256), _RANDOM)
    return body + _checksum(body)


def well_formed(key: str) -> bool:
    """Whether a text can be an API key: its form and its checksum. Says nothing about whether it was ever given out."""
    return _KEY.fullmatch(key) is not None and _checksum(key[:-_CHECK]) == key[-_CHECK:]


def new_secret(prefix: str) -> str:
    """Make the secret of a client (`pss_`), or a refresh token (`psr_`): 256 random bits."""
    return prefix + secrets.token_urlsafe(32)


def digest(credential: str) -> str:
    """Give the SHA-256 of a credential that holds 256 random bits, in hexadecimal: nothing slower is needed."""
    return hashlib.sha256(credential.encode(errors="surrogatepass")).hexdigest()


class Sealer:
    """HMAC-SHA256 of API keys and client secrets: a stolen database is worth nothing without this installation's secret."""

    def __init__(self, secret: bytes) -> None:
        """Raise BadConfiguration for a secret of less than 32 bytes."""
        if len(secret) < _LEAST_SECRET:
            raise BadConfiguration(
                f"The API key secret holds {len(secret)} bytes, but must hold {_LEAST_SECRET} at least."
            )
        self._secret = secret

    def seal(self, credential: str) -> str:
        """Give what is stored of a credential, in hexadecimal."""
        return hmac.digest(self._secret, credential.encode(errors="surrogatepass"), "sha256").hex()

    def matches(self, credential: str, sealed: str) -> bool:
        """Compare in constant time."""
        return hmac.compare_digest(self.seal(credential), sealed)

    def __repr__(self) -> str:
        return "Sealer()"


def sealer_from_file(path: Path) -> Sealer:
    """Read the secret from a file of mode 0600; the first start makes it. Raises BadConfiguration."""
    try:
        if not path.exists():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with new_file(path) as draft:
                draft.write_text(secrets.token_urlsafe(_LEAST_SECRET))
        if path.stat().st_mode & 0o077:
            raise BadConfiguration(f"The API key secret {path} can be read by other users: run `chmod 600 {path}`.")
        return Sealer(path.read_bytes().strip())
    except OSError as error:
        raise BadConfiguration(f"The API key secret {path} cannot be read or made: {error.strerror}.") from error


def _checksum(text: str) -> str:
    return _base62(zlib.crc32(text.encode()), _CHECK)


def _base62(number: int, digits: int) -> str:
    text = ""
    for _ in range(digits):
        number, digit = divmod(number, 62)
        text = _DIGITS[digit] + text
    return text
