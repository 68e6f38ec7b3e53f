"""The benchmark of the reckoning: one call of each length."""

from pathlib import Path

import pytest

from loadtests.bench import reckoning
from tests.gateway import vocabularies


@pytest.mark.parametrize("known", [True, False])
def test_the_bench_reckons_every_length(tmp_path: Path, capsys: pytest.CaptureFixture[str], *, known: bool) -> None:
    path = vocabularies.saved(vocabularies.byte_level(), tmp_path)
    reckoning.main(["--calls", "1", *(["--tokenizer", str(path)] if known else [])])
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[2:]]
    assert [row[0] for row in rows] == ["100", "1000", "16000", "256000"]
    assert all(float(figure) > 0 for row in rows for figure in row[1:])
