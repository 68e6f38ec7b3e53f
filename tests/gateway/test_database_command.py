"""`passerelle database`: the tables' revisions, by hand."""

from pathlib import Path

import pytest

from gateway.cli import main


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "passerelle.toml"
    path.write_text(f'[state]\ndirectory = "{tmp_path}"\n', encoding="utf-8")
    return str(path)


def test_tables_are_led_up_and_back_and_their_revision_is_shown(
    config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def shown(*words: str) -> str:
        capsys.readouterr()
        assert main(["database", *words, "--config", config]) == 0
        return capsys.readouterr().out

    assert shown("status") == "auth\tnone\t0002\nledger\tnone\t0003\n"
    shown("upgrade")
    assert shown("status") == "auth\t0002\t0002\nledger\t0003\t0003\n"
    shown("downgrade", "auth", "0001", "--yes")
    assert shown("status").startswith("auth\t0001\t0002\n")
    shown("upgrade")
    shown("downgrade", "ledger", "base", "--yes")
    assert shown("status") == "auth\t0002\t0002\nledger\tnone\t0003\n"


def test_a_revision_that_is_not_there_is_one_sentence(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    main(["database", "upgrade", "--config", config])
    capsys.readouterr()
    assert main(["database", "downgrade", "auth", "0000", "--yes", "--config", config]) == 1
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "revision '0000'" in told
