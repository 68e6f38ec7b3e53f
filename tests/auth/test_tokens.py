import pytest

from auth.errors import InvalidToken
from auth.principal import Principal
from auth.signing import KeySet, keys_from_text, new_pem
from auth.tokens import Tokens
from tests.auth.forge import AUDIENCE, ISSUER, NOW, forge, good_claims, good_header


def test_a_token_says_who_it_was_issued_to_and_what_they_may_do(tokens: Tokens) -> None:
    token = tokens.issue("0b9c", ["models", "chat"], "acme", may_leave=True, requests_per_minute=7)
    claims = tokens.verify(token)
    assert claims.principal == Principal(
        "0b9c", "acme", frozenset({"chat", "models"}), may_leave=True, requests_per_minute=7
    )
    assert (claims.issued_at, claims.expires_at) == (NOW, NOW + 900)


def test_two_tokens_of_the_same_second_have_different_ids(tokens: Tokens) -> None:
    first, second = (tokens.verify(tokens.issue("0b9c", [], "acme")) for _ in range(2))
    assert first.token_id != second.token_id


def test_a_hand_made_token_of_the_right_form_passes_or_the_bad_ones_prove_nothing(keys: KeySet, tokens: Tokens) -> None:
    token = forge(keys.newest, good_header(keys.newest), good_claims())
    assert tokens.verify(token).principal.tenant == "acme"


def test_a_token_ends_on_the_second_whether_or_not_it_was_seen_before(keys: KeySet) -> None:
    clock = [NOW]
    tokens = Tokens(keys, ISSUER, AUDIENCE, now=lambda: clock[0])
    seen, unseen = tokens.issue("0b9c", [], "acme"), tokens.issue("0b9c", [], "acme")
    assert tokens.verify(seen) is tokens.verify(seen)
    clock[0] = NOW + 899.9
    tokens.verify(seen)
    clock[0] = NOW + 900
    for token in (seen, unseen, seen):
        with pytest.raises(InvalidToken):
            tokens.verify(token)
    assert tokens.remembered == 0


def test_a_clock_up_to_a_minute_ahead_is_forgiven(keys: KeySet, tokens: Tokens) -> None:
    for name in ("iat", "nbf"):
        claims = good_claims() | {name: int(NOW) + 60}
        tokens.verify(forge(keys.newest, good_header(keys.newest), claims))


def test_the_memory_of_verified_tokens_is_bounded_and_drops_the_oldest(keys: KeySet) -> None:
    tokens = Tokens(keys, ISSUER, AUDIENCE, now=lambda: NOW, remember=3)
    issued = [tokens.issue(str(n), [], "acme") for n in range(5)]
    for token in issued:
        tokens.verify(token)
    assert tokens.remembered == 3
    assert [tokens.verify(token).principal.subject for token in issued] == ["0", "1", "2", "3", "4"]


def test_a_refused_token_is_not_remembered(tokens: Tokens) -> None:
    token = tokens.issue("0b9c", [], "acme")
    with pytest.raises(InvalidToken):
        tokens.verify(token[:-86] + "A" * 86)
    assert tokens.remembered == 0


def test_the_newest_key_signs_and_older_ones_still_verify() -> None:
    old_pem, new = new_pem(), new_pem()
    before = Tokens(keys_from_text(old_pem), ISSUER, AUDIENCE, now=lambda: NOW)
    after = Tokens(keys_from_text(old_pem + new), ISSUER, AUDIENCE, now=lambda: NOW)
    only_new = Tokens(keys_from_text(new), ISSUER, AUDIENCE, now=lambda: NOW)
    old_token = before.issue("0b9c", [], "acme")
    assert after.verify(old_token).principal.subject == "0b9c"
    assert only_new.verify(after.issue("1", [], "acme")).principal.subject == "1"
    with pytest.raises(InvalidToken):
        only_new.verify(old_token)
