"""Money: exact decimals in the operator's currency, never floats; kept to a millionth of a millionth.

Tokens cost what the target's price list says; a machine of our own costs by the hour, and each request its share of the hours in
which the machine did something (`busy`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_HALF_EVEN, Context, Decimal
from typing import Final

from gateway.target import Price, Target

NANO: Final = Decimal(
    "1e-9"
)  # budgets are counted in it: Redis counts exactly up to 2^53 of them, nine million of the currency
UNIT: Final = Decimal("1e-12")  # prices of a million tokens with six places give amounts that are exact in it
ZERO: Final = Decimal(0)
_MOST: Final = 2**63 - 1  # units in a column of the ledger; a larger amount would hold up the rows behind it
_MILLION: Final = Decimal(1_000_000)
_HOUR: Final = Decimal(3600)
_EXACT: Final = Context(prec=40, rounding=ROUND_HALF_EVEN)


def of_tokens(price: Price | None, prompt: int, completion: int) -> Decimal:
    """What so many tokens cost; nothing where there is no price."""
    if price is None:
        return ZERO
    return _kept(_EXACT.divide(price.input * prompt + price.output * completion, _MILLION))


def of_time(price_per_hour: Decimal | None, seconds: float) -> Decimal:
    """What a machine costs for so many seconds."""
    if price_per_hour is None or seconds <= 0:
        return ZERO
    return _kept(_EXACT.divide(_EXACT.multiply(price_per_hour, Decimal(str(seconds))), _HOUR))


def _kept(amount: Decimal) -> Decimal:
    return amount.quantize(UNIT, context=_EXACT)


def nanos(amount: Decimal) -> int:
    """An amount in `NANO`, rounded up: what is counted is never less than what was spent."""
    return int((amount / NANO).to_integral_value(ROUND_CEILING))


def units(amount: Decimal) -> int:
    """An amount in `UNIT`, as the ledger stores it."""
    return min(int(amount / UNIT), _MOST)


@dataclass(frozen=True)
class Tariff:
    """What each target costs, and the price that is saved where a target of our own answers."""

    targets: Mapping[str, Target]
    reference: Price | None
    currency: str = "EUR"

    def cost(self, target: str, prompt: int, completion: int, busy_seconds: float) -> Decimal:
        """What an attempt cost: its tokens by the price list, and its share of the machine."""
        known = self.targets.get(target)
        if known is None:  # nobody was asked, or a reload has removed it
            return ZERO
        return of_tokens(known.price, prompt, completion) + of_time(known.price_per_hour, busy_seconds)

    def machine(self, target: str) -> bool:
        """Whether a target's busy time is that of a machine of one's own: not so where only tokens are bought outside."""
        known = self.targets.get(target)
        return known is None or not known.outside or known.price_per_hour is not None

    def avoided(self, target: str, prompt: int, completion: int) -> Decimal:
        """What the same tokens would have cost at the reference; nothing for a target that is outside itself."""
        known = self.targets.get(target)
        return ZERO if known is None or known.outside else of_tokens(self.reference, prompt, completion)
