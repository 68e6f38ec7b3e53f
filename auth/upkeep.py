"""What a worker does every few seconds, so that what another one changed holds here too."""

import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Final

from anyio import to_thread

from auth.keys import ApiKeys
from auth.revocations import Revocations
from auth.sessions import SessionStore
from auth.signing import KeyFolder

EVERY_S: Final = 2.0
_SELDOM_S: Final = 3600.0

Step = Callable[[], Awaitable[object]]


class Upkeep:
    """Steps to be done every `EVERY_S` seconds, each by itself: one that fails must not keep the others from being done."""

    def __init__(
        self,
        signing: KeyFolder | None,
        revocations: Revocations,
        keys: ApiKeys,
        sessions: SessionStore,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`signing` None: the keys come from a setting. `clock` is monotonic, in seconds."""
        self._signing, self._revocations, self._keys, self._sessions = signing, revocations, keys, sessions
        self._clock, self._forgot = clock, float("-inf")

    def steps(self) -> Iterator[Step]:
        """What is due now: signing keys, revocations, last uses of keys, and every hour what has expired."""
        if self._signing is not None:
            signing = self._signing

            async def signing_keys() -> None:
                await to_thread.run_sync(signing.refresh)  # a slow disk must not stop the streams

            yield signing_keys
        yield self._revocations.refresh
        yield self._keys.flush
        if self._clock() - self._forgot >= _SELDOM_S:
            self._forgot = self._clock()
            yield self._revocations.forget
            yield self._sessions.forget
