"""The open routes: tokens are given and taken back, and the world is told how to verify them."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from slowapi import Limiter
from slowapi.errors import RateLimitExceeded
from starlette.requests import ClientDisconnect

from auth import form, metadata, throttle
from auth.errors import AuthError, InvalidRequest, OAuthError, StoreUnavailable, TooManyLogins
from auth.grants import CLIENT, REFRESH, Grants, anonymous
from auth.revoker import Revoker
from auth.signing import PUBLISHED_S, KeySet

Endpoint = Callable[[Request], Awaitable[Response]]

LATER = "temporarily_unavailable"  # RFC 6749 §4.1.2.1 has the word; §5.2 has none for a server that cannot answer now
NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}  # RFC 6749 §5.1


@dataclass(frozen=True)
class Rates:
    """How often an address may ask: for tokens by a password, and for anything else; None is no limit.

    Wrong bodies count as the first. `limiter` counts.
    """

    limiter: Limiter
    passwords: str | None
    others: str | None


def router(
    grants: Grants,
    revoker: Revoker,
    keys: KeySet,
    rates: Rates,
    *,
    issuer: str,
    public_url: str | None = None,
    request_id: Callable[[Request], str | None] = lambda _: None,
) -> APIRouter:
    """Make the routes. `public_url` is where callers reach them; without it the address of each request is taken for it.

    Every error they raise is answered here, in the form of RFC 6749 §5.2.
    """
    routes = APIRouter()
    routes.include_router(_tokens(grants, revoker, rates, request_id))
    routes.include_router(_published(keys, issuer, public_url))
    return routes


def _tokens(grants: Grants, revoker: Revoker, rates: Rates, request_id: Callable[[Request], str | None]) -> APIRouter:
    routes = APIRouter(tags=["auth"])

    async def exchanged(request: Request) -> Response:
        by = anonymous(host(request), request_id(request))
        granted = await grants.exchange(_fields(request), request.headers.get("authorization"), by)
        return JSONResponse(granted, headers=NO_STORE)

    # slowapi tells limits apart by the function's name.
    async def by_password(request: Request) -> Response:
        return await exchanged(request)

    async def otherwise(request: Request) -> Response:
        return await exchanged(request)

    async def take_back(request: Request) -> Response:
        token = form.required(_fields(request), "token")
        await revoker.revoke(token, anonymous(host(request), request_id(request)))
        return Response(headers=NO_STORE)

    passwords = _limited(by_password, rates.limiter, rates.passwords)
    others = _limited(otherwise, rates.limiter, rates.others)
    revoking = _limited(take_back, rates.limiter, rates.others)

    @routes.post("/auth/token", openapi_extra=metadata.TOKEN, responses=metadata.TOKEN_ANSWERS, summary="Get a token")
    async def token(request: Request) -> Response:
        request.state.form = await _form(request)
        return await _answered(request, others if _grant(request) in (REFRESH, CLIENT) else passwords)

    @routes.post(
        "/auth/revoke",
        openapi_extra=metadata.REVOKE,
        responses=metadata.REVOKE_ANSWERS,
        response_class=Response,  # nothing is said but that it is done
        summary="Take one back",
    )
    async def revoke(request: Request) -> Response:
        request.state.form = await _form(request)
        return await _answered(request, revoking)

    return routes


def _published(keys: KeySet, issuer: str, public_url: str | None) -> APIRouter:
    routes = APIRouter(tags=["auth"])

    @routes.get("/.well-known/jwks.json", responses=metadata.JWKS_ANSWERS, summary="The public keys that verify tokens")
    async def jwks() -> Response:
        return JSONResponse(keys.jwks(), headers={"Cache-Control": f"public, max-age={PUBLISHED_S}"})

    @routes.get(
        "/.well-known/oauth-authorization-server",
        responses=metadata.SERVER_ANSWERS,
        summary="Where tokens are had (RFC 8414)",
    )
    async def server_metadata(request: Request) -> Response:
        base = (public_url or str(request.base_url)).rstrip("/")
        # Without a configured address the answer depends on the Host header: nobody may keep it for somebody else.
        cache = f"public, max-age={PUBLISHED_S}" if public_url else "no-store"
        return JSONResponse(metadata.document(issuer, base), headers={"Cache-Control": cache})

    return routes


def host(request: Request) -> str:
    """Give the caller's address as the socket has it; a header is whatever its sender likes."""
    return request.client.host if request.client else "local"


def address(request: Request) -> str:
    """Give what counts as one address for limits."""
    return throttle.network(host(request))


def _limited(endpoint: Endpoint, limiter: Limiter, rate: str | None) -> Endpoint:
    if rate is None:
        return endpoint
    limited = limiter.limit(rate)(endpoint)

    async def guarded(request: Request) -> Response:
        try:
            response: Response = await limited(request)
        except RateLimitExceeded as error:
            raise TooManyLogins(throttle.wait_s(limiter, request.state.view_rate_limit)) from error
        return response

    return guarded


def _fields(request: Request) -> dict[str, str]:
    """The fields that were read; raises InvalidRequest when there are none."""
    read: dict[str, str] | InvalidRequest = request.state.form
    if isinstance(read, InvalidRequest):
        raise read
    return read


def _grant(request: Request) -> str | None:
    read = request.state.form
    return None if isinstance(read, InvalidRequest) else read.get("grant_type")


async def _answered(request: Request, endpoint: Endpoint) -> Response:
    """Every refusal is said in the words of OAuth: its libraries read no other object."""
    try:
        return await endpoint(request)
    except OAuthError as error:
        return _refusal(error.error, error)
    except (TooManyLogins, StoreUnavailable) as error:
        return _refusal(LATER, error)


def _refusal(word: str, error: AuthError) -> Response:
    body = {"error": word, "error_description": str(error)}
    return JSONResponse(body, error.status, headers={**NO_STORE, **error.headers})


async def _form(request: Request) -> dict[str, str] | InvalidRequest:
    """Read the body, but never more than a form can be, before anything is counted: what it asks for decides by which limit."""
    body = bytearray()
    try:
        async for part in request.stream():
            body += part
            if len(body) > form.MAX_BODY_BYTES:
                return InvalidRequest(f"The body is longer than {form.MAX_BODY_BYTES} bytes.")
        return form.parse(request.headers.get("content-type", ""), bytes(body))
    except ClientDisconnect:
        return InvalidRequest("The body did not arrive.")
    except InvalidRequest as error:
        return error
