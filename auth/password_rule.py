"""Which passwords can be chosen, and the bytes that are hashed for one (NIST SP 800-63B-4 §3.1.1.2)."""

import unicodedata

from auth.errors import WeakPassword

MAX_BYTES = 1024  # of the normalised UTF-8 form: nobody types more, and hashing is not a place for megabytes

# NIST asks for 15 where the password is the only factor and 8 where there is a second one. The default lies between,
# since guessing is slowed down per address; set 15 to conform. No composition rules, as NIST demands.
MIN_CHARACTERS = 12


def check(password: str, minimum: int = MIN_CHARACTERS) -> None:
    """Raise WeakPassword unless a new password has at least `minimum` characters and at most 1024 bytes, after NFKC."""
    encoded = prepared(password)
    if encoded is None:
        raise WeakPassword(f"A password is at most {MAX_BYTES} bytes of Unicode text.")
    if len(encoded.decode()) < minimum:
        raise WeakPassword(f"A password has at least {minimum} characters.")


def prepared(password: str) -> bytes | None:
    """NFKC, then UTF-8, so that every keyboard gives the same bytes for the same text; None when it cannot be used."""
    if len(password) > MAX_BYTES:  # before normalising: NFKC can make a text 18 times longer
        return None
    try:
        encoded = unicodedata.normalize("NFKC", password).encode()
    except UnicodeEncodeError:  # half a surrogate pair
        return None
    return encoded if len(encoded) <= MAX_BYTES else None
