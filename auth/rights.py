"""The rules of who may give which right to whom.

Nobody reaches into a tenant that is not theirs, unless they have the scope `tenants`. Nobody gives a right that they do not have.
Nobody changes somebody who has a right that they do not have.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from auth.errors import Forbidden, InsufficientScope
from auth.principal import ADMIN, KEYS, OPERATE, SCOPES, TENANTS, Principal

ROOT = Principal("commands", "default", SCOPES, may_leave=True)  # whoever can run commands beside the database


@dataclass(frozen=True, slots=True)
class Grant:
    """The rights that somebody is to get. `scopes` None: those of the role; `models` None: every one; times in UTC."""

    scopes: frozenset[str] | None = None
    may_leave: bool = False
    requests_per_minute: int | None = None
    models: frozenset[str] | None = None
    expires_at: datetime | None = None


def require(caller: Principal, *scopes: str) -> None:
    """Raise InsufficientScope unless the caller has all of them."""
    for scope in scopes:
        caller.require(scope)


def require_user(caller: Principal) -> None:
    """Raise unless the caller is a user who may have keys: a key cannot make keys, or a stolen one would never end."""
    caller.require(KEYS)
    if caller.kind != "user":
        raise Forbidden("Only a user who has logged in has API keys; an administrator makes those of a service.")


def seen(caller: Principal, tenant: str | None) -> str | None:
    """The tenant whose rows an operator is shown; None for all of them."""
    caller.require(OPERATE)
    if tenant is None:
        return None if TENANTS in caller.scopes else caller.tenant
    return reached(caller, tenant)


def reached(caller: Principal, tenant: str | None) -> str:
    """The tenant in which something is to be made, by default the caller's own."""
    if tenant is None:
        return caller.tenant
    if not caller.reaches(tenant):
        raise InsufficientScope(TENANTS)  # the same for tenants that do not exist
    return tenant


def may_change(caller: Principal, held: Grant, changes: Mapping[str, Any]) -> None:
    """Raise unless the caller may change somebody who has the rights `held`: operators may disable and no more.

    Whoever could set a password or a secret of somebody could do what that one may.
    """
    locks_out = changes == {"disabled": True}
    caller.require(OPERATE if locks_out else ADMIN)
    if lacking := sorted((held.scopes or frozenset()) - caller.scopes):
        raise Forbidden(f"You may not change somebody who has the scope {lacking[0]!r}, which you do not have.")
    if caller.models is not None and not locks_out:
        raise Forbidden("You may not change somebody who may ask for models that you may not.")
    if held.may_leave and not locks_out and not caller.may_leave and TENANTS not in caller.scopes:
        raise Forbidden("You may not change somebody whose text may leave for outside models: yours may not.")


def may_give(caller: Principal, scopes: Collection[str], rights: Grant, most_rpm: int) -> None:
    """Raise Forbidden unless the caller may give these; above `most_rpm` requests a minute (0: any) only with `tenants`."""
    if lacking := sorted(set(scopes) - caller.scopes):
        raise Forbidden(f"You may not give the scope {lacking[0]!r}, which you do not have.")
    if caller.models is not None and (rights.models is None or not rights.models <= caller.models):
        raise Forbidden("You may not give models that you may not ask for.")
    if TENANTS in caller.scopes:
        return
    if rights.may_leave and not caller.may_leave:
        raise Forbidden("You may not let text leave for outside models: your own may not.")
    if most_rpm and (rights.requests_per_minute or 0) > most_rpm:
        raise Forbidden(f"You may not give more than the configured {most_rpm} requests a minute.")
