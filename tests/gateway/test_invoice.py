"""The invoice that docs/usage.md computes by hand, from the same six requests."""

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import groupby
from pathlib import Path

from sqlalchemy.ext.asyncio import AsyncEngine

from gateway import reports
from gateway.exchange import Attempt, Exchange, Outcome, State
from gateway.journal import Journal
from gateway.ledger import Ledger
from gateway.money import Tariff
from gateway.target import Price, Target
from gateway.usage import Period

TEXT = (Path(__file__).parents[2] / "docs" / "usage.md").read_text(encoding="utf-8")
BEGIN = datetime(2030, 5, 6, tzinfo=UTC)
DAY = Period(date(2030, 5, 6), date(2030, 5, 7))
LOST = {"drifted": Outcome.DRIFTED, "failed": Outcome.FAILED}


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    request: str
    way_out: str
    target: str
    prompt: int
    answer: int
    seconds: float
    cost: Decimal
    charged: Decimal
    avoided: Decimal


def table() -> list[Row]:
    cells = [line.strip("| ").split("|") for line in TEXT.splitlines() if re.match(r"\| \d \| \w+ \|", line)]
    found = []
    for request, way_out, target, prompt, answer, seconds, *amounts in cells:
        cost, charged, avoided = (Decimal(amount.strip()) for amount in amounts)
        names = (request.strip(), way_out.strip(), target.strip())
        found.append(Row(*names, int(prompt), int(answer), float(seconds), cost, charged, avoided))
    return found


def tariff() -> Tariff:
    """The prices of the document."""
    hour = re.search(r"price_per_hour = ([\d.]+)", TEXT)
    tokens = re.search(r"price = \{ input = ([\d.]+), output = ([\d.]+) \}", TEXT)
    assert hour
    assert tokens
    price = Price(input=Decimal(tokens[1]), output=Decimal(tokens[2]))
    urls = ["http://127.0.0.1:1/v1"]
    falcon = Target(kind="vllm", urls=urls, model="f", price_per_hour=Decimal(hour[1]))  # type: ignore[arg-type]  # texts
    gpt = Target(kind="openai", urls=urls, model="g", outside=True, price=price)  # type: ignore[arg-type]
    return Tariff({"falcon": falcon, "gpt": gpt}, price)


def exchange(rows: list[Row]) -> Exchange:
    attempts = []
    for row in rows:
        if row.target:
            outcome = LOST.get(row.way_out, Outcome.SERVED)
            made = Attempt(
                row.target, firm=False, outcome=outcome, prompt_tokens=row.prompt, completion_tokens=row.answer
            )
            made.took(row.seconds)
            attempts.append(made)
    last = rows[-1]
    return Exchange(
        last.request * 32, f"req_{last.request}", 0.0, "acme", "alice", model="m", state=State(last.way_out), ended=1.0,
        attempts=attempts,
    )  # fmt: skip


async def test_the_ledger_gives_the_invoice_computed_by_hand(engine: AsyncEngine, tmp_path: Path) -> None:
    rows, prices = table(), tariff()
    assert len(rows) == 8
    ledger = Ledger(engine, Journal(tmp_path / "journal"), lambda: prices, now=lambda: BEGIN)
    await ledger.create_schema()
    for _, one in groupby(rows, key=lambda row: row.request):
        ledger.settle(exchange(list(one)))
    await ledger.drain()
    for number in {row.request for row in rows}:
        found = await ledger.of(f"req_{number}")
        expected = [(row.cost, row.avoided) for row in rows if row.request == number]
        # A request whose last try was thrown away has one row more; none here.
        assert [(row["cost"], row["avoided"]) for row in found] == expected
    made = await reports.make(engine, prices, DAY, ["tenant"], datetime(2030, 6, 1, tzinfo=UTC))
    (sums,) = made.rows
    stated = re.search(r"\*\*sum\*\*.*", TEXT)
    assert stated
    seconds, cost, charged, avoided = (Decimal(figure) for figure in re.findall(r"\*\*([\d.]+)\*\*", stated[0]))
    assert (sums.cost, sums.charged, sums.avoided) == (cost, charged, avoided)
    assert abs(sums.gpu_hours * 3600 - seconds) < Decimal("0.002")
    assert (sums.requests, sums.errors, sums.refusals, sums.cancelled) == (6, 1, 1, 1)
    assert (sums.regenerations, sums.fallbacks, sums.lost_tokens) == (1, 1, 1280)
    assert (sums.prompt_tokens, sums.completion_tokens) == (1200 + 1240 + 800 + 500 + 500, 300 + 260 + 400 + 100 + 40)
    returned = re.search(r"= (−[\d.]+): 11.5 busy seconds", TEXT)
    assert returned
    assert made.investment
    assert made.investment.returned == Decimal(returned[1].replace("−", "-"))
