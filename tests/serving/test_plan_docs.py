"""docs/serving.md says what the planner does."""

from pathlib import Path

from serving import memory, throughput
from serving.table import table

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "serving.md").read_text(encoding="utf-8")


def test_the_table_of_plans_is_what_the_planner_makes() -> None:
    assert TEXT.rstrip().endswith(table())


def test_the_constants_are_those_of_the_code() -> None:
    for text in (
        f"bandwidth × {throughput.MEMORY_EFFICIENCY}",
        f"operations × {throughput.ARITHMETIC_EFFICIENCY}",
        f"memory^{throughput.SOFTNESS}",
        f"{throughput.OVERHEAD * 1000:.1f} ms",
        f"{throughput.FP8_OVERHEAD * 1000:.1f} ms more, and {throughput.FP8_FULL} times",
        f"multiple of {throughput.FP8_TILE}, {throughput.FP8_BROKEN} times",
        f"{throughput.HYBRID_OVERHEAD * 1000:.1f} ms more",
        f"{throughput.STATE_EFFICIENCY:.2f} of the bandwidth",
        f"{memory.OUTSIDE_TORCH >> 20} MiB",
        f"{memory.GRAPH >> 20} MiB each",
        f"{memory.DRIVER_RESERVE >> 20} MiB",
        f"above {throughput.MOST_MEASURED:,} tokens/s",
    ):
        assert text in " ".join(TEXT.split()), text
