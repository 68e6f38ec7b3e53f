"""The open routes: `POST /auth/token` and `GET /.well-known/jwks.json`."""

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from slowapi.errors import RateLimitExceeded
from starlette.requests import ClientDisconnect

from auth import form, throttle
from auth.errors import InvalidRequest, OAuthError, TooManyLogins, UnsupportedGrantType
from auth.login import Login
from auth.signing import KeySet
from auth.tokens import Tokens

Endpoint = Callable[[Request], Awaitable[Response]]

NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}  # RFC 6749 §5.1
_FORM: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/x-www-form-urlencoded": {
                "schema": {
                    "type": "object",
                    "required": ["grant_type", "username", "password"],
                    "properties": {
                        "grant_type": {"type": "string", "enum": ["password"]},
                        "username": {"type": "string"},
                        "password": {"type": "string", "format": "password"},
                        "scope": {"type": "string"},
                    },
                }
            }
        },
    }
}


def router(
    login: Login,
    tokens: Tokens,
    keys: KeySet,
    rate: str | None = "10/minute",
    storage_uri: str = "memory://",
) -> APIRouter:
    """Make the routes. `rate` bounds the token requests of an address (None: no limit); raises BadConfiguration.

    The token route answers OAuthError itself; TooManyLogins and StoreUnavailable are left to the application.
    """
    routes = APIRouter(tags=["auth"])

    async def exchange(request: Request) -> Response:
        try:
            return JSONResponse(await _password_grant(request, login, tokens), headers=NO_STORE)
        except OAuthError as error:
            body = {"error": error.error, "error_description": str(error)}
            return JSONResponse(body, error.status, headers=NO_STORE)

    answer = exchange if rate is None else _limited(exchange, rate, storage_uri)

    @routes.post("/auth/token", openapi_extra=_FORM, summary="Exchange a user name and a password for a token")
    async def token(request: Request) -> Response:
        return await answer(request)

    @routes.get("/.well-known/jwks.json", summary="The public keys that verify tokens")
    async def jwks() -> Response:
        return JSONResponse(keys.jwks(), headers={"Cache-Control": "public, max-age=300"})

    return routes


def address(request: Request) -> str:
    """Give the caller's address as the socket has it; a header is whatever its sender likes."""
    return throttle.network(request.client.host if request.client else None)


def _limited(endpoint: Endpoint, rate: str, storage_uri: str) -> Endpoint:
    limiter = throttle.limiter(rate, storage_uri, address)
    limited = limiter.limit(rate)(endpoint)

    async def guarded(request: Request) -> Response:
        try:
            response: Response = await limited(request)
        except RateLimitExceeded as error:
            raise TooManyLogins(throttle.wait_s(limiter, request.state.view_rate_limit)) from error
        return response

    return guarded


async def _password_grant(request: Request, login: Login, tokens: Tokens) -> dict[str, object]:
    """RFC 6749 §4.3.2; raises OAuthError."""
    fields = form.parse(request.headers.get("content-type", ""), await _body(request))
    if form.required(fields, "grant_type") != "password":
        raise UnsupportedGrantType("This server offers the grant type 'password'.")
    user = await login.authenticate(form.required(fields, "username"), form.required(fields, "password"))
    scopes = form.narrowed(fields.get("scope"), user.scopes)
    access_token = tokens.issue(
        user.id, scopes, user.tenant, may_leave=user.may_leave, requests_per_minute=user.requests_per_minute
    )
    return {
        "access_token": access_token,
        "token_type": "bearer",
        "expires_in": tokens.lifetime_s,
        "scope": " ".join(sorted(scopes)),
    }


async def _body(request: Request) -> bytes:
    """Read the body, but never more than a form can be; raises InvalidRequest."""
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > form.MAX_BODY_BYTES:
                raise InvalidRequest(f"The body is longer than {form.MAX_BODY_BYTES} bytes.")
    except ClientDisconnect as error:
        raise InvalidRequest("The body did not arrive.") from error
    return bytes(body)
