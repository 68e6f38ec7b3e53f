"""The grants of RFC 6749: password (§4.3), refresh_token (§6) and client_credentials (§4.4), each to a token response (§5.1)."""

import base64
import binascii
from dataclasses import dataclass
from urllib.parse import unquote_plus

from auth import form
from auth.audit import Actor
from auth.clients import Client, ClientStore
from auth.errors import InvalidClient, InvalidGrant, InvalidName, InvalidRequest, UnsupportedGrantType
from auth.login import Login
from auth.metadata import GRANTS
from auth.sessions import SessionStore
from auth.store import User, UserStore, normal_name
from auth.throttle import Throttle, network
from auth.tokens import Tokens

PASSWORD, REFRESH, CLIENT = GRANTS

Fields = dict[str, str]
Response = dict[str, object]


@dataclass(frozen=True)
class Grants:
    """Gives tokens. `throttle` None: passwords may be tried as often as the address's own limit lets them."""

    login: Login
    users: UserStore
    sessions: SessionStore
    clients: ClientStore
    tokens: Tokens
    throttle: Throttle | None = None

    async def exchange(self, fields: Fields, authorization: str | None, by: Actor) -> Response:
        """Answer the fields of a token request; `authorization` is its header.

        Raises an OAuthError, TooManyLogins or StoreUnavailable.
        """
        grant = form.required(fields, "grant_type")
        if grant not in GRANTS:
            raise UnsupportedGrantType(f"The grants offered are {', '.join(GRANTS)}.")
        client = await self._client(fields, authorization)
        if grant == PASSWORD:
            return await self._password(fields, by)
        if grant == REFRESH:
            return await self._refresh(fields, by)
        if client is None:
            raise InvalidClient
        return self._for_client(fields, client)

    async def _password(self, fields: Fields, by: Actor) -> Response:
        username, password = form.required(fields, "username"), form.required(fields, "password")
        account, address = _account(username), network(by.address)
        if self.throttle is not None:
            self.throttle.admit(address, account)
        try:
            user = await self.login.authenticate(username, password)
        except InvalidGrant:
            if self.throttle is not None:
                self.throttle.failed(address, account)
            raise
        if self.throttle is not None:
            self.throttle.succeeded(address, account)
        scopes = form.narrowed(fields.get("scope"), user.scopes)
        session, token = await self.sessions.open(user, scopes)
        return self._for_user(user, scopes, session, token)

    async def _refresh(self, fields: Fields, by: Actor) -> Response:
        token = form.required(fields, "refresh_token")
        if "scope" in fields:  # first, or a scope that is refused would use up the token
            held = await self.sessions.scopes(token)
            form.narrowed(fields["scope"], held or frozenset(fields["scope"].split(" ")))
        renewal = await self.sessions.renew(token, by)
        user = await self.users.by_id(renewal.user_id)
        if user is None:
            raise InvalidGrant("The user of this refresh token is gone.")
        scopes = form.narrowed(fields.get("scope"), renewal.scopes & user.scopes)
        return self._for_user(user, scopes, renewal.session, renewal.token)

    def _for_user(self, user: User, scopes: frozenset[str], session: str, refresh: str) -> Response:
        token = self.tokens.issue(
            user.id,
            scopes,
            user.tenant,
            may_leave=user.may_leave,
            requests_per_minute=user.requests_per_minute,
            session=session,
            generation=user.generation,
        )
        return {**self._body(token, scopes), "refresh_token": refresh}

    def _for_client(self, fields: Fields, client: Client) -> Response:
        scopes = form.narrowed(fields.get("scope"), client.scopes)
        token = self.tokens.issue(
            client.id,
            scopes,
            client.tenant,
            may_leave=client.may_leave,
            requests_per_minute=client.requests_per_minute,
            kind="client",
            generation=client.generation,
        )
        return self._body(token, scopes)  # no refresh token: a client has its secret (RFC 6749 §4.4.3)

    def _body(self, token: str, scopes: frozenset[str]) -> Response:
        return {
            "access_token": token,
            "token_type": "bearer",
            "expires_in": self.tokens.lifetime_s,
            "scope": " ".join(sorted(scopes)),
        }

    async def _client(self, fields: Fields, authorization: str | None) -> Client | None:
        """The client that a request names with its secret, in the header or the body, never both (RFC 6749 §2.3.1)."""
        named = _basic(authorization) if authorization else None
        if named and "client_secret" in fields:
            raise InvalidRequest("The client's secret is given twice.")
        if named is None and "client_secret" in fields:
            named = form.required(fields, "client_id"), fields["client_secret"]
        return await self.clients.authenticate(*named) if named else None


def anonymous(address: str, request_id: str | None) -> Actor:
    """Who asks for a token: nobody yet."""
    return Actor("anonymous", "", address, request_id)


def _account(username: str) -> str:
    try:
        return normal_name(username)
    except InvalidName:
        return ""  # nobody's: such attempts are counted together for an address


def _basic(header: str) -> tuple[str, str]:
    """Name and secret, each form-encoded before it was put into the header."""
    scheme, _, value = header.partition(" ")
    try:
        if scheme.lower() != "basic":
            raise InvalidClient
        name, colon, secret = base64.b64decode(value.strip(), validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError) as error:
        raise InvalidClient from error
    if not colon:
        raise InvalidClient
    return unquote_plus(name), unquote_plus(secret)
