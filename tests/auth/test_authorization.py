import pytest

from auth import Principal, bearer
from auth.errors import InsufficientScope, InvalidToken


@pytest.mark.parametrize("header", ["Bearer a.b-c_d~e+f/g==", "bearer a.b-c_d~e+f/g==", "BEARER   a.b-c_d~e+f/g== "])
def test_the_token_is_what_follows_the_scheme_in_any_case(header: str) -> None:
    assert bearer(header) == "a.b-c_d~e+f/g=="


@pytest.mark.parametrize("header", [None, "", "Basic YTpi", "Token abc", "abc"])
def test_without_a_bearer_token_the_challenge_names_no_error(header: str | None) -> None:
    with pytest.raises(InvalidToken) as refused:
        bearer(header)
    assert refused.value.headers == {"WWW-Authenticate": 'Bearer realm="passerelle"'}


@pytest.mark.parametrize(
    "header", ["Bearer", "Bearer ", "Bearer\tabc", "Bearer a b", "Bearer =", "Bearer é", "Bearerabc"]
)
def test_a_malformed_bearer_token_is_called_invalid(header: str) -> None:
    with pytest.raises(InvalidToken) as refused:
        bearer(header)
    assert refused.value.headers == {"WWW-Authenticate": 'Bearer realm="passerelle", error="invalid_token"'}
    assert (refused.value.status, refused.value.code) == (401, "invalid_api_key")


def test_a_missing_scope_is_named_and_a_present_one_passes() -> None:
    principal = Principal("0b9c", "acme", frozenset({"chat"}))
    principal.require("chat")
    with pytest.raises(InsufficientScope) as refused:
        principal.require("admin")
    assert refused.value.status == 403
    assert 'error="insufficient_scope", scope="admin"' in refused.value.headers["WWW-Authenticate"]
