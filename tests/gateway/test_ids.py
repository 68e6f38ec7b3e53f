import time
import uuid

from gateway import ids

NOW = 1_904_000_000_000  # milliseconds since 1970


def test_an_id_is_a_uuid_of_version_7_that_says_when_it_was_made() -> None:
    before = time.time_ns() // 1_000_000
    made = uuid.UUID(ids.new())
    assert (made.version, made.variant) == (7, uuid.RFC_4122)
    assert before <= made.int >> 80 <= time.time_ns() // 1_000_000


def test_those_of_a_moment_differ_and_later_ones_come_later() -> None:
    earlier = {ids.new(lambda: NOW * 1_000_000) for _ in range(1000)}
    later = {ids.new(lambda: (NOW + 1) * 1_000_000) for _ in range(1000)}
    assert len(earlier) == len(later) == 1000
    assert max(earlier) < min(later)
    assert {len(made) for made in earlier} == {32}
