"""The ledger: append-only rows, one set an exchange, written once on every way out.

Billing policy: `settle` rows are charged to the caller; `regeneration` rows (answers thrown away because they drifted) and
`fallback` rows (targets that failed) are kept in rows of their own and charged to nobody; `release` says that a request was
not charged at all. A `reserve` row says what a request may use at most, where its caller's tokens or money are limited.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, NamedTuple

import structlog
from sqlalchemy import BigInteger, Column, Dialect, Float, Index, Integer, MetaData, String, Table, func, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.types import TypeDecorator

from auth import schema
from auth.database import UtcDateTime, translated
from auth.errors import StoreUnavailable
from gateway.exchange import MOST_TOKENS, Attempt, Exchange, Outcome, State
from gateway.journal import Journal, read
from gateway.money import UNIT, ZERO, Tariff, units
from gateway.outbox import rows as alerts
from gateway.posting import Posting

log = structlog.get_logger()


class Money(TypeDecorator[Decimal]):
    """An exact amount, stored as a whole number of `money.UNIT`: SQLite knows no decimals."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> int | None:
        """The number of units."""
        return None if value is None else units(value)

    def process_result_value(self, value: int | None, dialect: Dialect) -> Decimal | None:
        """The amount."""
        return None if value is None else value * UNIT


metadata = MetaData()
rows = Table(
    "ledger",
    metadata,
    Column("exchange_id", String(32), primary_key=True),
    Column("sequence", Integer, primary_key=True),
    Column("request_id", String(128), nullable=False, index=True),
    Column("at", UtcDateTime, nullable=False, index=True),
    Column("kind", String(16), nullable=False),
    Column("tenant", String(255), nullable=False),
    Column("subject", String(255), nullable=False),
    Column("model", String(256), nullable=False),
    Column("target", String(256), nullable=False),
    Column("state", String(16), nullable=False),
    Column("status", Integer, nullable=False),
    Column("prompt_tokens", Integer, nullable=False),
    Column("completion_tokens", Integer, nullable=False),
    Column("usage_source", String(16), nullable=False),
    Column("seconds", Float, nullable=False),
    Column("first_text_seconds", Float),
    Column("guards", String(512), nullable=False),
    Column("error", String(128)),
    Column("key", String(36)),  # the API key, if it was one
    Column("busy_seconds", Float, nullable=False, server_default="0"),
    Column("cost", Money, nullable=False, server_default="0"),
    Column("avoided", Money, nullable=False, server_default="0"),
    *(Index(f"ix_ledger_{column}_at", column, "at") for column in ("tenant", "subject", "key", "model")),
)

alerts.to_metadata(metadata)  # migrated with the ledger

LINEAGE: Final = schema.Lineage("ledger", Path(__file__).parent / "migrations", "0003", metadata)
RESERVE: Final = "reserve"  # the kind of rows that say what may be used, before it is
CHARGED: Final = "settle"  # the kind of rows that callers are charged for
_CHARGED: Final = frozenset({State.COMPLETED, State.TRUNCATED, State.BLOCKED, State.CLIENT_CLOSED})
_DRAIN_SECONDS: Final = 0.5
_LONGEST_SECONDS: Final = 4.0  # between two tries while the database is away
_AT_ONCE: Final = 500  # rows in one statement, whose time is limited: what gathered meanwhile may be much


class Charge(NamedTuple):
    """What a caller is charged: tokens of prompt and answer, and money."""

    tokens: int
    cost: Decimal


NOTHING: Final = Charge(0, ZERO)


class Ledger:
    """Takes the record of each exchange once; a task of its own moves rows from the journal into the database."""

    def __init__(
        self,
        engine: AsyncEngine,
        journal: Journal,
        tariff: Callable[[], Tariff] = lambda: Tariff({}, None),
        now: Callable[[], datetime] | None = None,
        away: Callable[[bool], None] | None = None,
        written: Callable[[list[dict[str, Any]]], None] | None = None,
        drained: Callable[[int | None], None] | None = None,
    ) -> None:
        """`tariff` gives the prices that hold now, as a reload may change them; `away` hears whether the database takes rows.

        `written` hears of the rows of each exchange that has ended, `drained` how many rows the database has taken, None if it
        did not.
        """
        self._heard = away or (lambda _: None)
        self._written, self._drained = written or (lambda _: None), drained or (lambda _: None)
        self._engine, self._tariff = engine, tariff
        self._journal, self._posting = journal, Posting(rows, engine.dialect.name)
        self._now = now or (lambda: datetime.now(UTC))
        self._draining = asyncio.Lock()

    async def create_schema(self) -> None:
        """Bring the table to its newest revision."""
        await schema.prepare(self._engine, LINEAGE)

    def reserve(self, exchange: Exchange, prompt: int, completion: int, cost: Decimal) -> None:
        """Write down what an exchange may use at most: if the process is killed, what was under way is known."""
        self._journal.append([reservation(exchange, self._now(), prompt, completion, cost)])

    def settle(self, exchange: Exchange) -> Charge:
        """Write an exchange down. Synchronous on purpose: an awaited write is lost when the client leaves."""
        written = entries(exchange, self._now(), self._tariff())
        self._journal.append(written)
        self._written(written)
        last = written[-1]
        if last["kind"] != CHARGED:
            return NOTHING
        return Charge(last["prompt_tokens"] + last["completion_tokens"], Decimal(last["cost"]))

    async def run(self) -> None:
        """Drain until cancelled; a database that is away is tried again, nothing is lost meanwhile."""
        pause = _DRAIN_SECONDS
        while True:
            try:
                await self.drain()
            except (SQLAlchemyError, StoreUnavailable, OSError) as error:
                self._heard(True)
                self._drained(None)
                log.warning("ledger_waits", reason=type(error).__name__)
                # Each try ends a segment, and every worker looks at all of them: an outage must not make thousands.
                pause = min(2 * pause, _LONGEST_SECONDS)
            else:
                self._heard(False)
                pause = _DRAIN_SECONDS
            await asyncio.sleep(pause)

    async def drain(self) -> None:
        """Move every finished segment into the database. A row that is there already is left alone."""
        async with self._draining:
            for segment in self._journal.finished():
                try:
                    fitting = await asyncio.to_thread(self._read, segment)
                except FileNotFoundError:  # a command has drained it meanwhile
                    continue
                for begin in range(0, len(fitting), _AT_ONCE):
                    async with self._engine.begin() as connection:
                        await self._posting.insert(connection, fitting[begin : begin + _AT_ONCE])
                self._drained(len(fitting))
                segment.unlink(missing_ok=True)

    def _read(self, segment: Path) -> list[tuple[Any, ...]]:
        return [self._posting.fitting(line) for line in read(segment)]

    async def of(self, request_id: str) -> list[dict[str, Any]]:
        """The rows of one request id, in order."""
        query = select(rows).where(rows.c.request_id == request_id).order_by(rows.c.exchange_id, rows.c.sequence)
        async with self._engine.connect() as connection:
            return [dict(row) for row in (await connection.execute(query)).mappings()]

    async def spent(self, since: datetime, **of: str) -> Charge:
        """What was charged since then to whatever the columns `of` name; raises StoreUnavailable.

        Rows that are still in a journal do not count.
        """
        tokens, cost = func.sum(rows.c.prompt_tokens + rows.c.completion_tokens), func.sum(rows.c.cost)
        query = select(tokens, cost).where(rows.c.kind == CHARGED, rows.c.at >= since)
        query = query.where(*(rows.c[column] == value for column, value in of.items()))
        with translated():
            async with self._engine.connect() as connection:
                total, money = (await connection.execute(query)).one()
        return Charge(int(total or 0), money or ZERO)


def entries(exchange: Exchange, at: datetime, tariff: Tariff) -> list[dict[str, Any]]:
    """The rows of an exchange that has ended: one for each attempt that was not delivered, and the last one for the caller.

    Money is saved by what was delivered alone.
    """
    kept, lost = exchange.parts()
    delivered = kept or Attempt(target="", firm=False)
    charged = exchange.state in _CHARGED and kept is not None
    common = _common(exchange, at)
    written = []
    for sequence, attempt in enumerate(lost):
        kind = "regeneration" if attempt.outcome is Outcome.DRIFTED else "fallback"
        written.append({**common, **_tokens(attempt, tariff), "kind": kind, "sequence": sequence})
    last = {**common, **_tokens(delivered, tariff), "kind": CHARGED if charged else "release", "sequence": len(lost)}
    if charged:
        saved = tariff.avoided(delivered.target, delivered.prompt_tokens, delivered.completion_tokens)
        last["avoided"] = str(saved)
    last["error"] = exchange.error
    written.append(last)
    return written


def reservation(exchange: Exchange, at: datetime, prompt: int, completion: int, cost: Decimal) -> dict[str, Any]:
    """The row that says what a request may use at most, written before a model is asked. It is no part of any sum."""
    return {
        **_common(exchange, at),
        "kind": RESERVE,
        "sequence": -1,
        "target": "",
        "prompt_tokens": min(prompt, MOST_TOKENS),
        "completion_tokens": min(completion, MOST_TOKENS),
        "usage_source": "reserved",
        "error": None,
        "busy_seconds": 0.0,
        "cost": str(cost),
        "avoided": "0",
    }


def _common(exchange: Exchange, at: datetime) -> dict[str, Any]:
    return {
        "exchange_id": exchange.id,
        "request_id": exchange.request_id,
        "at": at.isoformat(),
        "tenant": exchange.tenant,
        "subject": exchange.subject,
        "key": exchange.key,
        "model": exchange.model,
        "state": str(exchange.state),
        "status": exchange.status,
        "seconds": round((exchange.ended or exchange.started) - exchange.started, 6),
        "first_text_seconds": None if exchange.first_text is None else round(exchange.first_text - exchange.started, 6),
        "guards": exchange.verdict_line(),
    }


def _tokens(attempt: Attempt, tariff: Tariff) -> dict[str, Any]:
    busy_seconds = attempt.busy_seconds if tariff.machine(attempt.target) else 0.0
    cost = tariff.cost(attempt.target, attempt.prompt_tokens, attempt.completion_tokens, busy_seconds)
    return {
        "target": attempt.target,
        "prompt_tokens": attempt.prompt_tokens,
        "completion_tokens": attempt.completion_tokens,
        "usage_source": attempt.usage_source,
        "error": attempt.reason,
        "busy_seconds": round(busy_seconds, 6),
        "cost": str(cost),
        "avoided": "0",
    }


def journal_folder(state: Path) -> Path:
    """Where the journal of an installation lies."""
    return state / "journal"
