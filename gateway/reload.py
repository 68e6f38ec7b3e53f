"""SIGHUP: the configuration is read again; what it says of targets, models, routing, money and limits holds from then on.

Nothing under way is touched. A configuration that is wrong changes nothing at all.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import structlog
from pydantic import BaseModel

from gateway.reckoning import Reckoner
from gateway.routing import Catalogue
from gateway.settings import BadSettings, Settings
from gateway.tokenizer import Tokenizer

log = structlog.get_logger()

_SWAPPED: Final = ("targets", "models", "routing", "money", "limits")
_HANGUP: Final = frozenset({signal.SIGHUP})


class Reload:
    """Reads the configuration by `read` (raises BadSettings) when it is told to; `replaced` hears when the catalogue has changed.

    `settings` are those of the start, which go on to hold for all other tables, until other workers take over.
    """

    def __init__(
        self,
        settings: Settings,
        read: Callable[[], Settings],
        catalogue: Catalogue,
        reckoner: Reckoner,
        replaced: Callable[[Settings], Awaitable[None]],
        told: Callable[[bool], None] = lambda _: None,
    ) -> None:
        """`told` hears of each reload whether it was done."""
        self._told = told
        self._settings, self._read, self._catalogue, self._replaced = settings, read, catalogue, replaced
        self._reckoner = reckoner

    async def run(self) -> None:
        """Reload at each SIGHUP, for ever; one that comes during a reload is followed by one more."""
        asked = asyncio.Event()
        with _hangups(asked.set):
            while True:
                await asked.wait()
                asked.clear()
                await self.now()

    async def now(self) -> None:
        """Reload once, or log in one sentence why not."""
        try:
            settings, secrets, tokenizers = await asyncio.to_thread(
                self._files
            )  # a slow disk must not stop the streams
        except BadSettings as error:
            log.error("reload_refused", reason=str(error))  # noqa: TRY400  # the sentence says all
            self._told(False)
            return
        before = _published(self._catalogue)
        self._catalogue.replace(
            self._settings.model_copy(update={name: getattr(settings, name) for name in _SWAPPED}), secrets
        )
        self._reckoner.replace(tokenizers)
        after = _published(self._catalogue)
        await self._replaced(settings)
        self._told(True)
        log.info("reloaded", added=sorted(after - before), removed=sorted(before - after))
        if keys := sorted(_changed(self._settings, settings)):
            log.warning(
                "workers_needed", keys=keys, reason="these have changed, but only new workers read them: send SIGUSR2"
            )

    def _files(self) -> tuple[Settings, dict[str, str | None], dict[Path, Tokenizer]]:
        settings = self._read()
        settings.require_models()
        return settings, settings.keys(), settings.tokenizers(self._reckoner.tokenizers)


def _changed(before: BaseModel, now: BaseModel, table: str = "") -> Iterator[str]:
    """The keys whose values differ, without the values: they may be secrets."""
    for name in type(before).model_fields:
        old, new = getattr(before, name), getattr(now, name)
        if old == new or (not table and name in _SWAPPED):
            continue
        if isinstance(old, BaseModel) and isinstance(new, BaseModel) and type(old) is type(new):
            yield from _changed(old, new, f"{table}{name}.")
        else:
            yield f"{table}{name}"


@contextmanager
def _hangups(heard: Callable[[], None]) -> Iterator[None]:
    """Hear every SIGHUP, also one that was held back while the process started; afterwards it is held back again, if it was."""
    if threading.current_thread() is not threading.main_thread():  # only the main thread gets signals
        yield
        return
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, heard)
    before = signal.pthread_sigmask(signal.SIG_UNBLOCK, _HANGUP)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        loop.remove_signal_handler(signal.SIGHUP)


def _published(catalogue: Catalogue) -> set[str]:
    """Models and replicas in words; without what an address may hold beside its host."""
    replicas = {
        f"replica {pool.name} {url.netloc.rpartition('@')[2]}{url.path}"
        for pool in catalogue.pools.values()
        for url in (urlsplit(replica.url) for replica in pool.replicas)
    }
    return replicas | {f"model {name}" for name in catalogue.names()}
