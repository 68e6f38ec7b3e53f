"""Password hashes: argon2id through passlib, in threads, a few at a time."""

import secrets
import warnings
from dataclasses import dataclass
from typing import NamedTuple

import anyio
import anyio.to_thread

from auth.errors import WeakPassword
from auth.password_rule import MAX_BYTES, prepared

with warnings.catch_warnings():
    # passlib 1.7.4, the last release, imports the standard library's deprecated `crypt` (and does without it from
    # Python 3.13 on), and reads the deprecated `argon2.__version__` when its backend is chosen. Both happen here, once.
    warnings.simplefilter("ignore", DeprecationWarning)
    from passlib.context import CryptContext
    from passlib.hash import argon2

    argon2.set_backend("argon2_cffi")


@dataclass(frozen=True, slots=True)
class Cost:
    """What one hash costs: `memory_kib` KiB held, passed over `rounds` times, in `lanes` threads."""

    memory_kib: int
    rounds: int
    lanes: int


OWASP = Cost(memory_kib=19 * 1024, rounds=2, lanes=1)  # OWASP Password Storage Cheat Sheet: m=19 MiB, t=2, p=1
CHEAPEST = Cost(memory_kib=8, rounds=1, lanes=1)  # the least argon2 allows; protects nothing, for tests


class Verdict(NamedTuple):
    """`holds`: the password is right; `replacement`: a new hash to store when the old one was made at another cost."""

    holds: bool
    replacement: str | None


class Passwords:
    """Hashes and verifies; each call takes milliseconds of a core, so at most `at_once` run and the event loop none."""

    def __init__(self, cost: Cost = OWASP, at_once: int = 4) -> None:
        """`at_once` times `cost.memory_kib` is the memory that logins can take."""
        self._context = CryptContext(
            schemes=["argon2"],
            argon2__type="ID",
            argon2__memory_cost=cost.memory_kib,
            argon2__rounds=cost.rounds,
            argon2__parallelism=cost.lanes,
        )
        self._limiter = anyio.CapacityLimiter(at_once)
        self._nobody = self._context.hash(secrets.token_bytes(16))

    async def hash(self, password: str) -> str:
        """Hash a new password; raises WeakPassword when it is too long to be one."""
        encoded = prepared(password)
        if encoded is None:
            raise WeakPassword(f"A password has at most {MAX_BYTES} bytes.")
        return await anyio.to_thread.run_sync(self._context.hash, encoded, limiter=self._limiter)

    async def verify(self, password: str, stored: str | None) -> Verdict:
        """Compare with a stored hash. Without one (unknown user) the same work is done, for nobody, and it fails."""
        encoded = prepared(password)
        if encoded is None:
            return Verdict(holds=False, replacement=None)  # says nothing about the user: it depends on the input alone
        holds, replacement = await anyio.to_thread.run_sync(
            self._context.verify_and_update, encoded, stored or self._nobody, limiter=self._limiter
        )
        return Verdict(holds and stored is not None, replacement if holds else None)
