"""Which passwords can be chosen, and the bytes that are hashed for one (NIST SP 800-63B-4 §3.1.1.2)."""

import functools
import unicodedata

from auth.errors import WeakPassword

MAX_BYTES = 1024  # of the normalised UTF-8 form: nobody types more, and hashing is not a place for megabytes

# NIST asks for 15 where the password is the only factor and 8 where there is a second one. The default lies between,
# since guessing is slowed down per account and address; set 15 to conform. No composition rules, as NIST demands.
MIN_CHARACTERS = 12

FEWEST_GUESSES = 10**5  # zxcvbn's estimate; below it a throttled guesser gets there within days
MAX_WEIGHED = 72  # characters: zxcvbn's time grows with the square of the length
PRODUCT = "passerelle"

_ADVICE = "choose a longer phrase of several words."


def check(password: str, minimum: int = MIN_CHARACTERS, *, username: str = "", guesses: int = FEWEST_GUESSES) -> None:
    """Raise WeakPassword unless a new password may be chosen (NIST SP 800-63B-4 §3.1.1.2).

    After NFKC it has at least `minimum` characters and at most 1024 bytes, and it is none of what guessers try first: a
    leaked password, a word or a name; `username` or the product's name with decoration; repetition, sequences and
    keyboard walks that zxcvbn finds in fewer than `guesses` (0: not asked). The sentence says which, and never repeats
    the password. Takes milliseconds of a core, up to two seconds for a text full of the symbols that stand for letters.
    """
    encoded = prepared(password)
    if encoded is None:
        raise WeakPassword(f"A password is at most {MAX_BYTES} bytes of Unicode text.")
    text = encoded.decode()
    minimum = max(minimum, 1)  # zxcvbn fails on nothing
    if len(text) < minimum:
        raise WeakPassword(f"A password has at least {minimum} characters.")
    if text.casefold() in _tried_first():
        raise WeakPassword(f"This password is in the lists of leaked passwords, words and names; {_ADVICE}")
    if _is_made_of_names(text, username):
        raise WeakPassword(f"This password is little more than the user's name or the name of this service; {_ADVICE}")
    if guesses and _guesses(text) < guesses:
        raise WeakPassword(f"This password repeats itself or follows a pattern that is guessed quickly; {_ADVICE}")


def prepared(password: str) -> bytes | None:
    """NFKC, then UTF-8, so that every keyboard gives the same bytes for the same text; None when it cannot be used."""
    if len(password) > MAX_BYTES:  # before normalising: NFKC can make a text 18 times longer
        return None
    try:
        encoded = unicodedata.normalize("NFKC", password).encode()
    except UnicodeEncodeError:  # half a surrogate pair
        return None
    return encoded if len(encoded) <= MAX_BYTES else None


@functools.cache
def _tried_first() -> frozenset[str]:
    """The 30,000 most frequent leaked passwords, and English words and names, as zxcvbn ships them."""
    from zxcvbn.frequency_lists import FREQUENCY_LISTS  # megabytes, wanted only where a password is chosen

    return frozenset(word.casefold() for words in FREQUENCY_LISTS.values() for word in words)


def _is_made_of_names(text: str, username: str) -> bool:
    """Whether nothing but digits and signs is left when the user's names and the product's are taken out."""
    letters = _letters(text)
    parts = "".join(c if c.isalpha() else " " for c in _folded(username)).split()  # jean.dupont is also jean, dupont
    rest = letters
    for name in sorted({PRODUCT, _letters(username), *parts} - {""}, key=len, reverse=True):
        rest = rest.replace(name, "")  # no pattern like (a|aa)+: its time would be exponential in a chosen name
    return bool(letters) and not rest


def _letters(text: str) -> str:
    return "".join(filter(str.isalpha, _folded(text)))


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()


def _guesses(text: str) -> float:
    """How many guesses the start of a password takes, by zxcvbn's estimate (Wheeler, USENIX Security 2016)."""
    from zxcvbn import zxcvbn

    one_line = text[:MAX_WEIGHED].replace("\n", " ")  # zxcvbn 4.5 fails on digits before a line break
    return float(zxcvbn(one_line)["guesses"])
