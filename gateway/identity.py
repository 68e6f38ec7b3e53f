"""The configuration of who may come in: our own users and tokens, and outside issuers."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, model_validator

from auth.password_rule import FEWEST_GUESSES, MIN_CHARACTERS
from gateway.target import Part

if TYPE_CHECKING:
    from auth.issuers import Issuer

# `tenants` is not among them: nobody outside rules over every tenant.
GivenScope = Literal["chat", "languages", "models", "usage", "keys", "operate", "admin"]
Algorithm = Literal["RS256", "RS384", "RS512", "ES256", "ES384", "ES512"]


def _safe_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme == "https" and parts.hostname:
        return url
    if parts.scheme == "http" and parts.hostname and _loopback(parts.hostname):
        return url
    raise ValueError("must be an https:// address (http:// only on this machine)")


def _check_keys(text: str) -> None:
    from auth.errors import BadConfiguration
    from auth.signing import keys_from_text  # brings cryptography

    try:
        keys_from_text(text)
    except BadConfiguration:
        raise ValueError("has a signing_key that holds no P-256 private key (PEM or JWK)") from None


def _not_ours(name: str) -> str:
    if name in ("user", "client", "key"):
        raise ValueError("must not be user, client or key")
    return name


def _loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


# It begins the subjects of the issuer's users, which must not look like anything of ours.
_IssuerName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$"), AfterValidator(_not_ours)]
SafeUrl = Annotated[str, AfterValidator(_safe_url)]


class OutsideIssuer(Part):
    """An identity provider of somebody else whose tokens are accepted (OpenID Connect, by its JWKS).

    Either everybody it knows is of `tenant`, or the claim `tenant_claim` names one of `tenants`. `scopes` says which of our
    scopes the values of the claim `scope_claim` stand for (dots go into objects: `realm_access.roles`); `default_scopes` are
    everybody's.
    """

    issuer: Annotated[str, Field(min_length=1, max_length=255)]
    audience: Annotated[str, Field(min_length=1, max_length=255)]
    jwks_url: SafeUrl
    algorithms: Annotated[list[Algorithm], Field(min_length=1)] = ["RS256", "ES256"]  # noqa: RUF012  # pydantic copies it
    tenant: Annotated[str, Field(min_length=1, max_length=255)] | None = None
    tenant_claim: str | None = None
    tenants: list[str] = Field(default_factory=list)
    scope_claim: Annotated[str, Field(min_length=1)] = "scope"
    scopes: dict[str, list[GivenScope]] = Field(default_factory=dict)
    default_scopes: list[GivenScope] = Field(default_factory=list)
    may_leave: bool = False
    requests_per_minute: Annotated[int, Field(ge=1)] | None = None

    @model_validator(mode="after")
    def _one_tenant(self) -> Self:
        if (self.tenant is None) == (self.tenant_claim is None):
            raise ValueError("needs either tenant or tenant_claim, and not both")
        if self.tenant is not None and self.tenants:
            raise ValueError("has both tenant and tenants: the list belongs to a tenant_claim")
        if self.tenant_claim is not None and not self.tenants:
            raise ValueError("has a tenant_claim, but tenants, the names it may give, is empty")
        if not self.scopes and not self.default_scopes:
            raise ValueError("gives nobody a scope: set scopes or default_scopes")
        return self


class Auth(Part):
    """Our own users and tokens. Limits count per address; 0 switches one off."""

    issuer: Annotated[str, Field(min_length=1, max_length=255)] = "passerelle"
    audience: Annotated[str, Field(min_length=1, max_length=255)] = "passerelle"
    public_url: SafeUrl | None = None
    token_seconds: Annotated[int, Field(ge=1, le=86_400)] = 900
    refresh_seconds: Annotated[int, Field(ge=60, le=7_776_000)] = 1_209_600
    login_per_minute: Annotated[int, Field(ge=0, le=100_000)] = 10
    token_requests_per_minute: Annotated[int, Field(ge=0, le=100_000)] = 300
    minimum_password_length: Annotated[int, Field(ge=8, le=128)] = MIN_CHARACTERS
    minimum_password_guesses: Annotated[int, Field(ge=0, le=10**12)] = FEWEST_GUESSES
    key_stale_seconds: Annotated[int, Field(ge=0, le=86_400)] = 300
    signing_keys: Path | None = None
    signing_key: SecretStr | None = None
    api_key_secret: Annotated[SecretStr, Field(min_length=32)] | None = None
    issuers: dict[_IssuerName, OutsideIssuer] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _told_apart(self) -> Self:
        if self.signing_key is not None and self.signing_keys is not None:
            raise ValueError("has both signing_key and signing_keys, but the keys are in one place")
        if self.signing_key is not None:
            _check_keys(self.signing_key.get_secret_value())
        known = [self.issuer, *(entry.issuer for entry in self.issuers.values())]
        twice = {issuer for issuer in known if known.count(issuer) > 1}
        if twice:
            raise ValueError(f"has the issuer {min(twice)!r} twice: nobody could tell whose token one is")
        return self

    def outside(self) -> list[Issuer]:
        """The outside issuers, for the check of their tokens."""
        from auth.issuers import Issuer  # brings cryptography, which the commands that only read settings do without

        return [
            Issuer(
                name=name,
                issuer=entry.issuer,
                audience=entry.audience,
                jwks_url=entry.jwks_url,
                algorithms=frozenset(entry.algorithms),
                tenant=entry.tenant,
                tenant_claim=entry.tenant_claim,
                tenants=frozenset(entry.tenants),
                scope_claim=entry.scope_claim,
                scopes={value: frozenset(scopes) for value, scopes in entry.scopes.items()},
                default_scopes=frozenset(entry.default_scopes),
                may_leave=entry.may_leave,
                requests_per_minute=entry.requests_per_minute,
            )
            for name, entry in self.issuers.items()
        ]
