"""What the token endpoints say of themselves: RFC 8414, and their part of the OpenAPI document."""

from typing import Any, Final

from auth.principal import SCOPES

GRANTS: Final = ("password", "refresh_token", "client_credentials")


def document(issuer: str, base: str) -> dict[str, object]:
    """The authorization server metadata (RFC 8414 §2); `base` is the address that callers reach us under."""
    return {
        "issuer": issuer,
        "token_endpoint": f"{base}/auth/token",
        "revocation_endpoint": f"{base}/auth/revoke",
        "jwks_uri": f"{base}/.well-known/jwks.json",
        "grant_types_supported": list(GRANTS),
        "response_types_supported": [],  # required by the RFC; there is no authorization endpoint
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post", "none"],
        "revocation_endpoint_auth_methods_supported": ["none"],
        "scopes_supported": sorted(SCOPES),
    }


def _form(required: list[str], example: dict[str, str], **properties: dict[str, Any]) -> dict[str, Any]:
    schema = {"type": "object", "required": required, "properties": properties}
    content = {"application/x-www-form-urlencoded": {"schema": schema, "example": example}}
    return {"requestBody": {"required": True, "content": content}}


def _object(*required: str, **properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "required": list(required), "properties": properties}


def _answer(description: str, schema: dict[str, Any] | None = None, *headers: str) -> dict[str, Any]:
    content = {} if schema is None else {"content": {"application/json": {"schema": schema}}}
    shown = {name: {"required": True, "schema": _TEXT} for name in headers}
    return {"description": description, "headers": shown, **content}


_TEXT: Final[dict[str, Any]] = {"type": "string"}
_SECRET: Final[dict[str, Any]] = {"type": "string", "format": "password"}
_TEXTS: Final[dict[str, Any]] = {"type": "array", "items": _TEXT}
_REFUSAL: Final = _object("error", "error_description", error=_TEXT, error_description=_TEXT)
_APPLICATIONS: Final = {"$ref": "#/components/schemas/Error"}  # the error object of the application around these routes

TOKEN: Final = _form(
    ["grant_type"],
    {"grant_type": "password", "username": "zoe", "password": "sept chevaux bleus sur la colline"},
    grant_type={"type": "string", "enum": list(GRANTS)},
    username=_TEXT,
    password=_SECRET,
    refresh_token=_SECRET,
    client_id=_TEXT,
    client_secret=_SECRET,
    scope=_TEXT,
)
_TOKEN: Final = _object(
    "access_token",
    "token_type",
    "expires_in",
    "scope",
    access_token=_TEXT,
    token_type=_TEXT,
    expires_in={"type": "integer"},
    scope=_TEXT,
    refresh_token=_TEXT,
)
REVOKE: Final = _form(
    ["token"],
    {"token": "a refresh token", "token_type_hint": "refresh_token"},
    token={**_SECRET, "minLength": 1},
    token_type_hint=_TEXT,
)
_LATER: Final[dict[int | str, dict[str, Any]]] = {
    429: _answer("Too many requests from this address, or too many tries at one account.", _REFUSAL, "Retry-After"),
    503: _answer("The database does not answer.", _REFUSAL, "Retry-After"),
}

TOKEN_ANSWERS: Final[dict[int | str, dict[str, Any]]] = {
    200: _answer("A token.", _TOKEN),
    400: _answer("The request or the grant does not hold (RFC 6749 §5.2).", _REFUSAL),
    401: _answer("The client is not known or its secret is wrong.", _REFUSAL, "WWW-Authenticate"),
    **_LATER,
}
REVOKE_ANSWERS: Final[dict[int | str, dict[str, Any]]] = {
    200: _answer("The token is void, or was so already."),
    400: _answer("There is no token in the body.", _REFUSAL),
    **_LATER,
}

_KEY: Final = _object(
    "kty",
    "crv",
    "x",
    "y",
    "kid",
    kty={"const": "EC"},
    crv={"const": "P-256"},
    x=_TEXT,
    y=_TEXT,
    kid=_TEXT,
    use={"const": "sig"},
    alg={"const": "ES256"},
) | {"additionalProperties": False}  # above all no `d`, which is the private part
JWKS_ANSWERS: Final[dict[int | str, dict[str, Any]]] = {
    200: _answer(
        "A JWK set (RFC 7517, section 5).",
        _object("keys", keys={"type": "array", "minItems": 1, "items": _KEY}),
        "Cache-Control",
    )
}
_URL: Final = {"type": "string", "format": "uri"}
SERVER_ANSWERS: Final[dict[int | str, dict[str, Any]]] = {
    200: _answer(
        "The authorization server metadata.",
        _object(
            *(shown := document("", "")),
            **{name: _TEXTS if isinstance(value, list) else _URL for name, value in shown.items()} | {"issuer": _TEXT},
        ),
        "Cache-Control",
    )
}
