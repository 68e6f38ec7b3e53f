"""Whether machines of one's own have paid for themselves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from gateway.money import ZERO
from gateway.target import Target
from gateway.usage import Usage

_RATIO: Final = Decimal("1e-6")  # to which shares are rounded


@dataclass(frozen=True, slots=True)
class Investment:
    """The return of a period on machines of one's own.

    `returned` is what was avoided, less what the machines cost in all `hours` of the period (`gpu`), less what targets without a
    price by the hour cost (`fallback`). `utilisation` is the share of their hours in which the machines did something;
    `break_even` the utilisation at which the return would be nought if each busy hour avoided as much as now. Both are None where
    no machine has a price, the latter also where nothing was avoided.
    """

    hours: Decimal
    gpu_hours: Decimal
    avoided: Decimal
    gpu: Decimal
    fallback: Decimal
    returned: Decimal
    utilisation: Decimal | None
    break_even: Decimal | None


def investment(by_target: Iterable[Usage], targets: Mapping[str, Target], hours: Decimal) -> Investment:
    """From the sums by target, over so many hours in which each replica with a `price_per_hour` was switched on."""
    found = list(by_target)
    own = {name: target for name, target in targets.items() if target.price_per_hour is not None}
    machines = _machines(own.values())
    gpu = sum((price * number * hours for (_, price), number in machines.items()), ZERO)
    machine_hours = machines.total() * hours
    busy = sum((row.gpu_hours for row in found if row.group["target"] in own), ZERO)
    fallback = sum((row.cost for row in found if row.group["target"] not in own), ZERO)
    avoided = sum((row.avoided for row in found), ZERO)
    return Investment(
        hours=hours.quantize(_RATIO),
        gpu_hours=busy,
        avoided=avoided,
        gpu=gpu,
        fallback=fallback,
        returned=avoided - gpu - fallback,
        utilisation=(busy / machine_hours).quantize(_RATIO) if machine_hours else None,
        break_even=((gpu + fallback) * busy / (avoided * machine_hours)).quantize(_RATIO)
        if avoided and machine_hours
        else None,
    )


def _machines(own: Iterable[Target]) -> Counter[tuple[str, Decimal]]:
    """How many there are at each URL and price; targets on the same machines, as of adapters, do not make them more."""
    machines: Counter[tuple[str, Decimal]] = Counter()
    for target in own:
        machines |= Counter((str(url), target.price_per_hour or ZERO) for url in target.urls)
    return machines
