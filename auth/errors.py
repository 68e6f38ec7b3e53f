"""Everything this package raises on purpose.

Two shapes of answer leave a server for these errors, and each error knows which is its own:

- Most are rendered by the application as its usual error object, from `status`, `type`, `code`, `headers` and the
  message. `type` and `code` are the words OpenAI's API uses, so that its SDK raises the exception its users expect.
- Whatever `/auth/token` and `/auth/revoke` raise, `OAuthError` and below first of all, they answer themselves in the form
  of RFC 6749 §5.2, because whoever asks there is an OAuth client library: `{"error": "invalid_grant",
  "error_description": …}` with `Cache-Control: no-store`.

Messages are shown to the caller: they never repeat a token, a password, or which check failed.
"""

from collections.abc import Mapping
from types import MappingProxyType

REALM = "passerelle"
CHALLENGE = f'Bearer realm="{REALM}"'


class AuthError(Exception):
    """An error with all that is needed to answer it: status, OpenAI type and code, extra headers, one sentence."""

    status: int = 500
    type: str = "server_error"
    code: str | None = None
    headers: Mapping[str, str] = MappingProxyType({})


class InvalidToken(AuthError):
    """No credentials, or credentials that do not hold; the sentence is the same whatever the reason."""

    status = 401
    type = "invalid_request_error"
    code = "invalid_api_key"

    def __init__(self, *, given: bool = True) -> None:
        """`given` is False when the request carried no bearer token: RFC 6750 §3.1 then wants no error code."""
        super().__init__("A valid bearer token is required: it is missing, wrong or expired.")
        self.headers = {"WWW-Authenticate": CHALLENGE + (', error="invalid_token"' if given else "")}


class InsufficientScope(AuthError):
    """The caller is known but may not do this (RFC 6750 §3.1)."""

    status = 403
    type = "invalid_request_error"
    code = "missing_scope"

    def __init__(self, scope: str) -> None:
        super().__init__(f"This needs the scope {scope!r}, which your credentials do not carry.")
        self.scope = scope
        self.headers = {"WWW-Authenticate": f'{CHALLENGE}, error="insufficient_scope", scope="{scope}"'}


class TooManyLogins(AuthError):
    """An address asks too often, or tries too often at one account, which need not exist."""

    status = 429
    type = "requests"
    code = "rate_limit_exceeded"

    def __init__(self, retry_after_s: int) -> None:
        super().__init__(f"Too many sign-in attempts; try again in {retry_after_s} s.")
        self.headers = {"Retry-After": str(retry_after_s)}


class StoreUnavailable(AuthError):
    """The database does not answer."""

    status = 503
    code = "store_unavailable"
    headers = MappingProxyType({"Retry-After": "5"})


class IssuerUnavailable(AuthError):
    """An outside issuer has never told its keys and does not answer now, so its tokens cannot be checked."""

    status = 503
    code = "issuer_unavailable"
    headers = MappingProxyType({"Retry-After": "5"})

    def __init__(self) -> None:
        super().__init__("The issuer of this token does not answer, so the token cannot be checked now.")


class Unstorable(AuthError):
    """A text with a character that no database column takes, such as NUL in PostgreSQL."""

    status = 400
    type = "invalid_request_error"
    code = "invalid_text"


class NameTaken(AuthError):
    """A user of this name exists already."""

    status = 409
    type = "invalid_request_error"
    code = "name_taken"


class Unknown(AuthError):
    """Nothing of this name or id, or nothing that the caller may know of: the two are not told apart."""

    status = 404
    type = "invalid_request_error"


class UnknownUser(Unknown):
    """No user has this name."""

    code = "unknown_user"


class UnknownTenant(Unknown):
    """No tenant has this name."""

    code = "unknown_tenant"


class UnknownKey(Unknown):
    """No API key has this id."""

    code = "unknown_key"


class UnknownClient(Unknown):
    """No service client has this id."""

    code = "unknown_client"


class TenantClosed(AuthError):
    """The tenant is disabled: nobody is added to it."""

    status = 409
    type = "invalid_request_error"
    code = "tenant_disabled"


class Forbidden(AuthError):
    """The caller may not give this right, since it does not have it itself."""

    status = 403
    type = "invalid_request_error"
    code = "not_yours_to_give"


class InvalidName(AuthError):
    """A name that cannot be one."""

    status = 400
    type = "invalid_request_error"
    code = "invalid_name"


class NoScope(AuthError):
    """A key that could do nothing."""

    status = 400
    type = "invalid_request_error"
    code = "no_scope"


class WeakPassword(AuthError):
    """A password that the rule refuses."""

    status = 400
    type = "invalid_request_error"
    code = "weak_password"


class BadConfiguration(AuthError):
    """The program cannot start like this; the message is one sentence that says what to change."""


class OAuthError(AuthError):
    """An error of the token endpoint; `error` is its code of RFC 6749 §5.2."""

    status = 400
    type = "invalid_request_error"
    error: str = "invalid_request"


class InvalidRequest(OAuthError):
    """A body that is no token request: wrong type, too long, a field missing or given twice."""


class InvalidGrant(OAuthError):
    """Unknown user, wrong password, disabled user: one sentence for all of them. So for refresh tokens that do not hold."""

    error = "invalid_grant"

    def __init__(self, sentence: str = "The user name or the password is wrong.") -> None:
        super().__init__(sentence)


class InvalidClient(OAuthError):
    """Unknown client, wrong secret, disabled client: one sentence for all of them."""

    status = 401
    error = "invalid_client"
    headers = MappingProxyType({"WWW-Authenticate": f'Basic realm="{REALM}"'})

    def __init__(self) -> None:
        super().__init__("The client is unknown or its secret is wrong.")


class UnsupportedGrantType(OAuthError):
    """A grant that this server does not offer."""

    error = "unsupported_grant_type"


class InvalidScope(OAuthError):
    """A scope that is malformed, unknown, or more than the user has."""

    error = "invalid_scope"
