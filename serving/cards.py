"""The NVIDIA cards known beforehand, so that a plan can be made for a machine that is not this one."""

from __future__ import annotations

import difflib
import re
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from serving.errors import ServingError

CARDS = Path(__file__).resolve().parent / "data" / "cards.toml"
MIB = 1 << 20

MOST_CARDS = 64
_COUNTED = re.compile(r"(?:(\d+)\s*[x×*]\s*)?(\S.*)", re.IGNORECASE)
_MAKERS = re.compile(r"nvidia|geforce|tesla|rtx|[^a-z0-9]")


class CardError(ServingError):
    """A card is unknown or badly written; the sentence names the nearest ones."""


@dataclass(frozen=True)
class Card:
    """One kind of GPU. `memory` in bytes as the driver tells it, `bandwidth` in bytes/s, `flops` and `fp8_flops` in FLOP/s.

    `fp8_flops` is 0 where the card does not compute in FP8; `display` cards may also draw a desktop.
    """

    name: str
    memory: int
    capability: tuple[int, int]
    bandwidth: float
    flops: float
    fp8_flops: float = 0.0
    display: bool = False
    aliases: tuple[str, ...] = ()


@cache
def load_cards() -> tuple[Card, ...]:
    """The cards of data/cards.toml, in its order."""
    rows = tomllib.loads(CARDS.read_text(encoding="utf-8"))["card"]
    return tuple(
        Card(
            name=row["name"],
            memory=row["memory"] * MIB,
            capability=(row["capability"][0], row["capability"][1]),
            bandwidth=row["bandwidth"] * 1e9,
            flops=row["tflops"] * 1e12,
            fp8_flops=row.get("fp8_tflops", 0) * 1e12,
            display=row.get("display", False),
            aliases=tuple(row.get("aliases", ())),
        )
        for row in rows
    )


def match_card(name: str) -> Card | None:
    """The card a driver or a user calls `name`; None when it is not in the table."""
    wanted = _plain(name)
    for card in load_cards():
        if wanted in {_plain(spelling) for spelling in (card.name, *card.aliases)}:
            return card
    return None


def find_card(name: str) -> Card:
    """As `match_card`. Raises CardError with the nearest names."""
    card = match_card(name)
    if card is None:
        known = {_plain(card.name): card.name for card in load_cards()}
        near = [known[plain] for plain in difflib.get_close_matches(_plain(name), known, n=3, cutoff=0.3)]
        raise CardError(
            f"--gpu {name}: no such card; {'the nearest are' if near else 'known are'} "
            f"{', '.join(near or known.values())}"
        )
    return card


def parse_cards(text: str) -> tuple[int, Card]:
    """`2xH100` or `RTX A4500` as (number, card). Raises CardError."""
    found = _COUNTED.fullmatch(text.strip())
    if found is None or found[1] == "0":
        raise CardError(f"--gpus {text!r}: must be a number and a card, as in 2xH100; all of one kind")
    if int(found[1] or 1) > MOST_CARDS:
        raise CardError(
            f"--gpus {text!r}: must be at most {MOST_CARDS} of one machine (--nodes says how many machines)"
        )
    return int(found[1] or 1), find_card(found[2])


def _plain(name: str) -> str:
    return _MAKERS.sub("", name.lower())
