"""What administrators and operators do. The admin API and the commands both go through here; `rights` holds the rules.

What lies in a tenant out of reach is answered as if it were not there.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Self

from anyio import CapacityLimiter, to_thread
from sqlalchemy.ext.asyncio import AsyncEngine

from auth import password_rule
from auth.audit import Actor, Entry, entries
from auth.clients import Client, ClientStore
from auth.credentials import Sealer
from auth.errors import Forbidden, NoScope, UnknownClient, UnknownKey, UnknownUser
from auth.keys import Key, KeyStore
from auth.passwords import Passwords
from auth.principal import ADMIN, KEYS, OPERATE, TENANTS, Principal, scopes_of
from auth.rights import Grant, may_change, may_give, reached, require, require_user, seen
from auth.store import User, UserStore
from auth.tenants import Tenant, TenantStore

MOST_KEYS = 100  # of one user, made by that user
_ONE = CapacityLimiter(1)  # the estimator keeps state of its own


@dataclass(frozen=True)
class Administration:
    """Every method takes who calls and, where something changes, who is written into the audit.

    All raise InsufficientScope, Forbidden, an Unknown error, or StoreUnavailable; those that add also NameTaken, InvalidName and
    TenantClosed; those that take a password WeakPassword. `requests_per_minute` is the configured limit, above which only the
    holder of `tenants` raises anybody; 0 is none.
    """

    engine: AsyncEngine
    user_store: UserStore
    tenant_store: TenantStore
    key_store: KeyStore
    client_store: ClientStore
    passwords: Passwords
    minimum_password_length: int = password_rule.MIN_CHARACTERS
    requests_per_minute: int = 0
    minimum_password_guesses: int = password_rule.FEWEST_GUESSES

    @classmethod
    def over(cls, engine: AsyncEngine, sealer: Sealer, passwords: Passwords, **rules: int) -> Self:
        """With all stores on one database; `rules` are the last three fields."""
        users, tenants = UserStore(engine), TenantStore(engine)
        return cls(engine, users, tenants, KeyStore(engine, sealer), ClientStore(engine, sealer), passwords, **rules)

    async def tenants(self, caller: Principal) -> list[Tenant]:
        """The tenants within reach."""
        caller.require(OPERATE)
        return await self.tenant_store.list(None if TENANTS in caller.scopes else caller.tenant)

    async def add_tenant(self, caller: Principal, by: Actor, name: str) -> Tenant:
        """Add a tenant."""
        require(caller, ADMIN, TENANTS)
        return await self.tenant_store.add(name, by)

    async def change_tenant(self, caller: Principal, by: Actor, name: str, *, disabled: bool) -> Tenant:
        """Close a tenant, so that nobody of it gets in, or open it again."""
        require(caller, ADMIN, TENANTS)
        return await self.tenant_store.change(name, disabled=disabled, by=by)

    async def users(self, caller: Principal, tenant: str | None, after: str, limit: int) -> list[User]:
        """The users of a tenant, or of all within reach, by name."""
        return await self.user_store.list(seen(caller, tenant), after, limit)

    async def user(self, caller: Principal, user_id: str) -> User:
        """One user."""
        caller.require(OPERATE)
        user = await self.user_store.by_id(user_id)
        if user is None or not caller.reaches(user.tenant):
            raise UnknownUser("There is no user of that id.")
        return user

    async def add_user(
        self,
        caller: Principal,
        by: Actor,
        username: str,
        password: str,
        rights: Grant,
        *,
        tenant: str | None = None,
        role: str = "member",
    ) -> User:
        """Add a user to a tenant, by default the caller's."""
        caller.require(ADMIN)
        tenant = reached(caller, tenant)
        scopes = scopes_of(role, tenant) if rights.scopes is None else rights.scopes
        may_give(caller, scopes, rights, self.requests_per_minute)
        return await self.user_store.add(
            username,
            await self._hash(password, username),
            tenant=tenant,
            role=role,
            scopes=scopes,
            may_leave=rights.may_leave,
            requests_per_minute=rights.requests_per_minute,
            by=by,
        )

    async def change_user(self, caller: Principal, by: Actor, user_id: str, **changes: Any) -> User:
        """Change `role`, `scopes`, `may_leave`, `requests_per_minute`, `disabled` or `password` of a user.

        A role that is given without scopes brings its own.
        """
        user = await self.user(caller, user_id)
        may_change(caller, Grant(user.scopes, user.may_leave), changes)
        if "role" in changes and "scopes" not in changes:
            changes["scopes"] = scopes_of(changes["role"], user.tenant)
        self._may_give(caller, changes)
        if user_id == caller.subject and (changes.get("disabled") or ADMIN not in changes.get("scopes", {ADMIN})):
            raise Forbidden("You may not take administration from yourself: have somebody else do it.")
        if (password := changes.pop("password", None)) is not None:
            changes["password_hash"] = await self._hash(password, user.username)
        return await self.user_store.change(user_id, by, **changes)

    async def keys(self, caller: Principal, tenant: str | None, after: str, limit: int) -> list[Key]:
        """The API keys of a tenant, or of all within reach."""
        return await self.key_store.list(seen(caller, tenant), after=after, limit=limit)

    async def own_keys(self, caller: Principal, after: str, limit: int) -> list[Key]:
        """The caller's own API keys."""
        require_user(caller)
        return await self.key_store.list(caller.tenant, caller.subject, after, limit)

    async def add_key(
        self,
        caller: Principal,
        by: Actor,
        name: str,
        rights: Grant,
        *,
        tenant: str | None = None,
        owner: str | None = None,
    ) -> tuple[Key, str]:
        """Make a key for a user of the tenant (`owner`, an id) or for the tenant itself; without scopes a service's."""
        caller.require(ADMIN)
        tenant = reached(caller, tenant)
        bound = None
        if owner is not None:
            user = await self.user(caller, owner)
            if user.tenant != tenant:
                raise UnknownUser("There is no user of that id in this tenant.")
            bound = user.scopes
        return await self._new_key(caller, by, name, rights, tenant, owner, bound)

    async def add_own_key(self, caller: Principal, by: Actor, name: str, rights: Grant) -> tuple[Key, str]:
        """Make a key for the caller, who may have `MOST_KEYS` that hold."""
        require_user(caller)
        if await self.key_store.live(caller.subject) >= MOST_KEYS:
            raise Forbidden(f"You have {MOST_KEYS} API keys that hold: revoke one that you do not use.")
        return await self._new_key(caller, by, name, rights, caller.tenant, caller.subject)

    async def revoke_key(self, caller: Principal, by: Actor, key_id: str) -> Key:
        """Revoke a key of one's own, or, as an operator, one of the tenant."""
        if not {KEYS, OPERATE} & caller.scopes:
            caller.require(KEYS)
        key = await self.key_store.get(key_id)
        own = KEYS in caller.scopes and key.owner == caller.subject
        if not own and not (OPERATE in caller.scopes and caller.reaches(key.tenant)):
            raise UnknownKey("There is no API key of that id.")
        if not own:
            may_change(caller, Grant(key.scopes, key.may_leave), {"disabled": True})
        return await self.key_store.revoke(key_id, by)

    async def clients(self, caller: Principal, tenant: str | None, after: str, limit: int) -> list[Client]:
        """The service clients of a tenant, or of all within reach."""
        return await self.client_store.list(seen(caller, tenant), after, limit)

    async def client(self, caller: Principal, client_id: str) -> Client:
        """One client."""
        caller.require(OPERATE)
        client = await self.client_store.get(client_id)
        if not caller.reaches(client.tenant):
            raise UnknownClient("There is no client of that id.")
        return client

    async def add_client(
        self, caller: Principal, by: Actor, name: str, rights: Grant, *, tenant: str | None = None
    ) -> tuple[Client, str]:
        """Make a service client and its secret; without scopes a service's."""
        caller.require(ADMIN)
        tenant = reached(caller, tenant)
        scopes = scopes_of("service", tenant) if rights.scopes is None else rights.scopes
        may_give(caller, scopes, rights, self.requests_per_minute)
        return await self.client_store.add(name, replace(rights, scopes=scopes), tenant=tenant, by=by)

    async def change_client(self, caller: Principal, by: Actor, client_id: str, **changes: Any) -> Client:
        """Change `scopes`, `may_leave`, `requests_per_minute` or `disabled` of a client."""
        client = await self.client(caller, client_id)
        may_change(caller, Grant(client.scopes, client.may_leave), changes)
        self._may_give(caller, changes)
        return await self.client_store.change(client_id, by, **changes)

    async def new_client_secret(self, caller: Principal, by: Actor, client_id: str) -> str:
        """Replace the secret of a client."""
        caller.require(ADMIN)
        client = await self.client(caller, client_id)
        may_change(caller, Grant(client.scopes, client.may_leave), {})
        return await self.client_store.new_secret(client_id, by)

    async def audit(self, caller: Principal, tenant: str | None, before: int | None, limit: int) -> list[Entry]:
        """What has changed in a tenant, or in all within reach, newest first."""
        return await entries(self.engine, seen(caller, tenant), before, limit)

    async def _new_key(
        self,
        caller: Principal,
        by: Actor,
        name: str,
        rights: Grant,
        tenant: str,
        owner: str | None,
        bound: frozenset[str] | None = None,
    ) -> tuple[Key, str]:
        held = caller.scopes if bound is None else bound & caller.scopes
        scopes = (scopes_of("service", tenant) & held) if rights.scopes is None else rights.scopes
        if not scopes:
            raise NoScope("The key would have no scope: it could do nothing.")
        if bound is not None and (lacking := sorted(scopes - bound)):
            raise Forbidden(f"Its owner does not have the scope {lacking[0]!r}.")
        rights = replace(rights, scopes=scopes, models=caller.models if rights.models is None else rights.models)
        may_give(caller, scopes, rights, self.requests_per_minute)
        return await self.key_store.add(name, rights, tenant=tenant, owner=owner, by=by)

    def _may_give(self, caller: Principal, changes: dict[str, Any]) -> None:
        if not {"scopes", "may_leave", "requests_per_minute"} & set(changes):
            return
        rights = Grant(may_leave=bool(changes.get("may_leave")), requests_per_minute=changes.get("requests_per_minute"))
        may_give(caller, changes.get("scopes", ()), rights, self.requests_per_minute)

    async def _hash(self, password: str, username: str) -> str:
        check = partial(
            password_rule.check,
            password,
            self.minimum_password_length,
            username=username,
            guesses=self.minimum_password_guesses,
        )
        await to_thread.run_sync(check, limiter=_ONE)  # some passwords take it a second or two
        return await self.passwords.hash(password)
