"""Hypothesis strategies: one text or one body, cut anywhere into the pieces a network makes of it."""

from collections.abc import Sequence
from typing import TypeVar

from hypothesis import strategies as st

Cuttable = TypeVar("Cuttable", str, bytes)


def cuts_of(size: int) -> st.SearchStrategy[list[int]]:
    """Places to cut something of `size` units."""
    return st.lists(st.integers(0, size), max_size=12).map(sorted)


def pieces(whole: Cuttable, cuts: Sequence[int]) -> list[Cuttable]:
    """`whole` cut at `cuts`, which are in order; pieces may be empty, as networks allow."""
    return [whole[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(whole)], strict=True)]


def cut(whole: Cuttable) -> st.SearchStrategy[list[Cuttable]]:
    """`whole` in pieces: cut at a few places, or everywhere."""
    few = cuts_of(len(whole)).map(lambda cuts: pieces(whole, cuts))
    return st.one_of(few, st.just([whole[at : at + 1] for at in range(len(whole))]))
