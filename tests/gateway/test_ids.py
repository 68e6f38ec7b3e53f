import re

from gateway import ids

NOW = 1_904_000_000_000  # milliseconds since 1970
CYCLE = 2**32


def made(milliseconds: int) -> set[str]:
    return {ids.new(lambda: milliseconds * 1_000_000) for _ in range(1000)}


def test_those_of_a_moment_differ_and_begin_alike() -> None:
    found = made(NOW)
    assert len(found) == 1000
    assert len({one[:8] for one in found}) == 1
    assert all(re.fullmatch("[0-9a-f]{32}", one) for one in found)


def test_later_ones_come_later_until_the_time_begins_anew() -> None:
    assert max(made(NOW)) < min(made(NOW + 1))
    assert {one[:8] for one in made(NOW)} == {one[:8] for one in made(NOW + CYCLE)}
    assert min(made(CYCLE - 1)) > max(made(CYCLE))
