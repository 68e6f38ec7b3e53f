"""The benchmark of the check of a bearer token: one very short run."""

import json

import pytest

from loadtests.bench.verification import main


def test_a_run_measures_every_kind_of_token(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--checks", "40", "--rounds", "1", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert set(found) == {
        "token of ours, known",
        "token of ours, known, with an outside issuer configured",
        "API key, known",
        "token of an outside issuer, known",
        "token of ours, first time",
    }
    assert all(value > 0 for value in found.values())
