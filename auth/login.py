"""User name and password → user."""

from auth.errors import InvalidGrant
from auth.passwords import Passwords
from auth.store import User, UserStore


class Login:
    """Checks a name and a password against the store."""

    def __init__(self, store: UserStore, passwords: Passwords) -> None:
        self._store, self._passwords = store, passwords

    async def authenticate(self, username: str, password: str) -> User:
        """Give the user; raises InvalidGrant for any reason there is, or StoreUnavailable.

        Unknown and disabled users, and those of a disabled tenant, cost the same work as a wrong password, so time does not
        tell who exists. A hash made at an older cost is replaced while the password is at hand.
        """
        user = await self._store.by_name(username)
        verdict = await self._passwords.verify(password, user.password_hash if user else None)
        if user is None or user.disabled or not verdict.holds or await self._store.closed(user.tenant):
            raise InvalidGrant
        if verdict.replacement is not None:
            await self._store.rehash(user, verdict.replacement)
        return user
