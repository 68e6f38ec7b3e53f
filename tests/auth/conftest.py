import pytest

from auth.signing import KeySet, keys_from_text, new_pem
from auth.tokens import Tokens
from tests.auth.forge import AUDIENCE, ISSUER, NOW


@pytest.fixture(scope="session")
def keys() -> KeySet:
    return keys_from_text(new_pem())


@pytest.fixture
def tokens(keys: KeySet) -> Tokens:
    return Tokens(keys, ISSUER, AUDIENCE, now=lambda: NOW)
