"""A task of each worker: what other workers changed of tokens, keys and signing keys holds here within seconds."""

from __future__ import annotations

import asyncio

import structlog
from sqlalchemy.exc import SQLAlchemyError

from auth.errors import AuthError
from auth.upkeep import EVERY_S, Upkeep

log = structlog.get_logger()


async def once(upkeep: Upkeep) -> None:
    """Do every step that is due; one that fails is logged and tried again next time."""
    for step in upkeep.steps():
        try:
            await step()
        except (AuthError, SQLAlchemyError, OSError) as error:
            log.warning("upkeep_failed", step=step.__name__, reason=str(error) or type(error).__name__)


async def run(upkeep: Upkeep) -> None:
    """Do so until cancelled."""
    while True:
        await asyncio.sleep(EVERY_S)
        await once(upkeep)
