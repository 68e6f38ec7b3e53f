"""A ledger to write into at any time, and the prices it goes by."""

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.exchange import Attempt, Exchange, Outcome, State
from gateway.journal import Journal
from gateway.ledger import Ledger
from gateway.money import Tariff
from gateway.target import Price, Target

NOW = datetime(2030, 5, 6, 12, tzinfo=UTC)
PRICE = Price(input=Decimal("0.5"), output=Decimal("1.5"))
URLS: Any = ["http://127.0.0.1:1/v1", "http://127.0.0.1:2/v1"]
TARGETS = {
    "own": Target(kind="vllm", urls=URLS, model="f", price_per_hour=Decimal("1.8")),
    "outside": Target(kind="openai", urls=URLS[:1], model="g", outside=True, price=PRICE),
    "free": Target(kind="vllm", urls=URLS[:1], model="h"),
}
TARIFF = Tariff(TARGETS, PRICE)


class Book:
    """A ledger to write into at any time."""

    def __init__(self, engine: AsyncEngine, folder: Path, tariff: Tariff = TARIFF) -> None:
        self.at = NOW
        self.ledger = Ledger(engine, Journal(folder / "journal"), lambda: tariff, now=lambda: self.at)
        self._number = 0

    async def write(self, *exchanges: Exchange) -> None:
        for exchange in exchanges:
            self.ledger.settle(exchange)
        await self.ledger.drain()

    def exchange(self, state: State = State.COMPLETED, *attempts: Attempt, **fields: Any) -> Exchange:
        self._number += 1
        known = {"tenant": "acme", "subject": "alice", "model": "m", "request_id": "r", **fields}
        return Exchange(
            id=f"{self._number:032x}", started=0.0, ended=1.0, state=state, attempts=list(attempts), **known
        )


def attempt(target: str = "own", outcome: Outcome = Outcome.SERVED, seconds: float = 3.6) -> Attempt:
    made = Attempt(target, firm=False, outcome=outcome, prompt_tokens=100, completion_tokens=50)
    made.took(seconds)
    return made
