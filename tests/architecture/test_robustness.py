"""The table of docs/robustness.md on what is away names every choice there is, every part, and tests that exist."""

import re

from gateway.degraded import PARTS
from gateway.fail_policy import FailPolicy
from tests.architecture.sources import ROOT
from tests.architecture.test_threat_model import sections

TABLE = sections((ROOT / "docs" / "robustness.md").read_text(encoding="utf-8"))["What is away, and what goes on"]


def test_every_file_of_tests_that_is_named_exists() -> None:
    named = [re.findall(r"`(test_\w+\.py)`", row[-1]) for row in TABLE[1:]]
    assert all(named)
    assert [name for row in named for name in row if not (ROOT / "tests" / "gateway" / name).is_file()] == []


def test_every_choice_and_every_part_has_a_line() -> None:
    text = " ".join(cell for row in TABLE[1:] for cell in row)
    chosen = [name for name in FailPolicy.model_fields if not re.search(rf"`{name}( = |`)", text)]
    assert chosen == []
    assert [part for part in PARTS if f"`{part}`" not in text] == []
