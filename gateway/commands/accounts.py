"""What the commands on the ledger have in common: the database and the journal of an installation."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

    from gateway.ledger import Ledger
    from gateway.settings import Settings


@dataclass(frozen=True)
class Accounts:
    """An installation's ledger, opened."""

    engine: AsyncEngine
    ledger: Ledger
    settings: Settings


def run(config: Path | None, do: Callable[[Accounts], Awaitable[None]]) -> int:
    """Open the ledger, what a gateway that is gone left in its journal included, and do something with it."""

    async def opened() -> None:
        from auth import database, schema
        from gateway.journal import Journal
        from gateway.ledger import LINEAGE, Ledger, journal_folder
        from gateway.settings import load

        settings = load(config)
        engine = database.engine(settings.state.database())
        try:
            with database.translated():
                await schema.ready(engine)
                await schema.ready(engine, LINEAGE)
                journal = Journal(journal_folder(settings.state.directory))
                ledger = Ledger(engine, journal, settings.tariff)
                await ledger.drain()
            await do(Accounts(engine, ledger, settings))
        finally:
            await engine.dispose()

    asyncio.run(opened())
    return 0
