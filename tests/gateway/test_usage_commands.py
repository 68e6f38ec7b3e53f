"""`passerelle usage` and `passerelle ledger`, over the journal of a gateway that was killed."""

import csv
import io
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

import pytest

from auth import database
from gateway.cli import main
from gateway.commands.usage import GROUPS
from gateway.exchange import State
from gateway.journal import Journal
from gateway.ledger import Ledger
from gateway.money import Tariff
from gateway.usage import Group
from tests.gateway.books import PRICE, TARGETS, Book, attempt


def shown(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(words)
    out, err = capsys.readouterr()
    return code, out, err


@pytest.fixture
def installation(tmp_path: Path) -> Path:
    """The state of a gateway that was killed: its rows are in the journal alone."""
    config = tmp_path / "passerelle.toml"
    config.write_text(
        f"""[state]
directory = "{tmp_path}"
[money]
reference = "gpt"
[targets.own]
kind = "vllm"
urls = ["http://127.0.0.1:1/v1"]
model = "f"
price_per_hour = 1.8
[targets.gpt]
kind = "openai"
urls = ["http://127.0.0.1:1/v1"]
model = "g"
outside = true
price = {{ input = 0.5, output = 1.5 }}
[models.m]
targets = ["own", "gpt"]
""",
        encoding="utf-8",
    )
    journal = Journal(tmp_path / "journal")
    book = Book(database.engine("sqlite:///:memory:"), tmp_path)
    book.at = datetime.now(UTC)
    book.ledger = Ledger(
        book.ledger._engine, journal, lambda: Tariff({"own": TARGETS["own"], "gpt": TARGETS["outside"]}, PRICE)
    )
    book.ledger.settle(book.exchange(State.COMPLETED, attempt("own", seconds=36), request_id="req-1"))
    book.ledger.settle(book.exchange(State.COMPLETED, attempt("gpt", seconds=1), tenant="globex", subject="gus"))
    journal.close()
    return config


def test_the_command_shows_a_table_and_what_the_machines_returned(
    installation: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = shown(capsys, "usage", "--by", "tenant", "--by", "user", "--config", str(installation))
    lines = [line.split() for line in out.splitlines()]
    assert code == 0
    assert lines[2][:4] == ["tenant", "user", "username", "requests"]
    assert lines[3][:4] == ["acme", "alice", "-", "1"]
    assert lines[4][:4] == ["globex", "gus", "-", "1"]
    assert lines[5][:2] == ["total", "2"]
    assert lines[3][-4:] == ["0.01", "0.018", "0.018", "0.000125"]
    assert "return on investment: -" in out
    assert "which no machine can reach" in out


def test_the_command_writes_json_and_csv(installation: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = shown(capsys, "usage", "--format", "json", "--tenant", "acme", "--config", str(installation))
    assert (json.loads(out)["total"]["requests"], "investment" in json.loads(out)) == (1, False)
    _, out, _ = shown(capsys, "usage", "--format", "csv", "--by", "model", "--config", str(installation))
    assert [row["requests"] for row in csv.DictReader(io.StringIO(out))] == ["2"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--month", "2030-05", "--since", "2030-05-01"), "--month goes without --since and --until"),
        (("--since", "2030-05-02", "--until", "2030-05-01"), "--until holds 2030-05-01"),
    ],
)
def test_a_period_that_is_none_is_told(
    installation: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], sentence: str
) -> None:
    code, _, err = shown(capsys, "usage", *words, "--config", str(installation))
    assert code == 1
    assert sentence in err


def test_the_groups_of_the_command_are_those_of_the_report() -> None:
    assert get_args(Group) == GROUPS


def test_rows_are_shown_and_deleted_by_command(installation: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = ("--config", str(installation))
    _, out, _ = shown(capsys, "ledger", "show", "req-1", *config)
    assert "tenant=acme" in out
    assert "cost=0.018" in out
    code, _, err = shown(capsys, "ledger", "show", "req-9", *config)
    assert (code, "no row of the request 'req-9'" in err) == (1, True)
    code, _, err = shown(capsys, "ledger", "forget", "--tenant", "acme", "--user", "nobody", "--yes", *config)
    assert (code, "There is no row of theirs" in err) == (1, True)
    code, _, err = shown(capsys, "ledger", "forget", "--tenant", "acme", *config)
    assert (code, "1 rows would be deleted for good: say --yes" in err) == (1, True)
    assert "Deleted 1 rows." in shown(capsys, "ledger", "forget", "--tenant", "acme", "--yes", *config)[2]
    assert shown(capsys, "ledger", "show", "req-1", *config)[0] == 1
    assert "keep 31 or more" in shown(capsys, "ledger", "trim", "--keep-days", "30", "--yes", *config)[2]
    assert "say --yes" in shown(capsys, "ledger", "trim", "--keep-days", "31", *config)[2]
    assert "Deleted 0 rows." in shown(capsys, "ledger", "trim", "--keep-days", "31", "--yes", *config)[2]
    _, out, _ = shown(capsys, "audit", "list", *config)
    assert [line.split("\t")[3] for line in out.splitlines()] == ["ledger.trimmed", "ledger.forgotten"]
