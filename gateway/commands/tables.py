"""Lines of text that fit a width: of a table columns are left out, in an order, before a name in it is cut."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, Final

from rich.text import Text

_GAP: Final = 2  # columns
_LONGEST: Final = 64  # characters of a name
_LEAST: Final = 6  # columns that a name keeps
_FOLDED: Final = 3  # lines of a list

Cell = str | Text
Cells = Sequence[Sequence[Text]]


@dataclass(frozen=True)
class Column:
    """`short`: its head where room is short. `first`: columns that say enough of a cell. `leave`: its turn to be left out, or 0.

    `cut`: may be cut where leaving out is not enough. `folds`: a list with commas, which may go on in the next lines.
    """

    head: str
    short: str = ""
    first: int = 0
    leave: int = 0
    cut: bool = False
    folds: bool = False


def table(columns: Sequence[Column], rows: Sequence[Sequence[Cell]], width: int) -> list[Text]:
    """Its lines, the heads first."""
    cells = [[_text(cell) for cell in row] for row in rows]
    heads, wide = _fitted(columns, cells, width)
    lines = [_line([Text(heads[at], style="bold") for at in wide], wide.values(), width)]
    for row in cells:
        folded = [_folded(row[at], room) if columns[at].folds else [row[at]] for at, room in wide.items()]
        lines += [_line(parts, wide.values(), width) for parts in zip_longest(*folded, fillvalue=Text())]
    return lines


def _fitted(columns: Sequence[Column], cells: Cells, width: int) -> tuple[list[str], dict[int, int]]:
    """The heads, and how wide the columns are that stay: what costs least is tried first."""
    heads = [column.head for column in columns]
    wide = _natural(heads, cells)
    if _sum(wide) > width:
        heads = [column.short or column.head for column in columns]
        wide = _natural(heads, cells)
    if _sum(wide) > width:
        wide |= {at: min(wide[at], column.first) for at, column in enumerate(columns) if column.first}
    for at in sorted((at for at in wide if columns[at].leave), key=lambda at: columns[at].leave):
        if _sum(wide) > width:
            del wide[at]
    folds = [at for at in wide if columns[at].folds]
    _narrow(
        wide,
        width,
        {at: max(len(heads[at]), *(len(part) for row in cells for part in _parts(row[at]))) for at in folds},
    )
    _narrow(wide, width, dict.fromkeys([*folds, *(at for at in wide if columns[at].cut)], _LEAST))
    return heads, wide


def fits(columns: Sequence[Column], rows: Sequence[Sequence[Cell]], width: int) -> bool:
    """Whether a table of them needs nothing left out, cut or shortened."""
    cells = [[_text(cell) for cell in row] for row in rows]
    return _sum(_natural([column.head for column in columns], cells)) <= width


def pairs(facts: Iterable[tuple[str, Cell]], width: int) -> list[Text]:
    """Keys and values, as many in a line as it holds."""
    lines: list[Text] = []
    for key, value in facts:
        pair = Text.assemble((f"{key} " if key else "", "bold"), _text(value))
        if lines and lines[-1].cell_len + _GAP + pair.cell_len <= width:
            lines[-1].append(" " * _GAP).append_text(pair)
        else:
            pair.truncate(width, overflow="ellipsis")
            lines.append(_straight(pair))
    return lines


def sentence(text: Text, width: int) -> list[Text]:
    """A text of one style in as many lines as it needs."""
    return [_straight(Text(line, style=text.style)) for line in textwrap.wrap(text.plain, width)]


def plain(text: Any, style: str = "", longest: int = _LONGEST) -> Text:
    """Somebody's text as text: no markup, and nothing that a terminal obeys."""
    shown = "".join(sign if sign.isprintable() else "?" for sign in str(text))
    return Text(shown if len(shown) <= longest else f"{shown[: longest - 1]}…", style=style)


def _text(cell: Cell) -> Text:
    return Text(cell) if isinstance(cell, str) else cell


def _straight(text: Text) -> Text:
    text.no_wrap, text.overflow = True, "crop"
    return text


def _natural(heads: Sequence[str], cells: Cells) -> dict[int, int]:
    return {at: max(len(head), *(row[at].cell_len for row in cells)) for at, head in enumerate(heads)}


def _sum(wide: dict[int, int]) -> int:
    return sum(wide.values()) + _GAP * (len(wide) - 1)


def _narrow(wide: dict[int, int], width: int, least: dict[int, int]) -> None:
    """Take from the widest column that may give, until they fit."""
    while _sum(wide) > width:
        giving = [at for at, enough in least.items() if wide[at] > enough]
        if not giving:
            return
        wide[max(giving, key=wide.__getitem__)] -= 1


def _parts(cell: Text) -> list[str]:
    return cell.plain.split(", ")


def _folded(cell: Text, width: int) -> list[Text]:
    lines: list[str] = []
    for part in _parts(cell):
        if lines and len(lines[-1]) + len(part) + 2 <= width:
            lines[-1] += f", {part}"
        else:
            lines.append(part)
    if len(lines) > _FOLDED:
        lines[_FOLDED - 1 :] = [f"{lines[_FOLDED - 1]}, …"]
    return [Text(line, style=cell.style) for line in lines]


def _line(cells: Iterable[Text], wide: Iterable[int], width: int) -> Text:
    line = Text()
    for cell, room in zip(cells, wide, strict=True):
        shown = cell.copy()
        shown.truncate(room, overflow="ellipsis", pad=True)
        line.append_text(shown).append(" " * _GAP)
    line.rstrip()
    line.truncate(width, overflow="ellipsis")
    return _straight(line)
