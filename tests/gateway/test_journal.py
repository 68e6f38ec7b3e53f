import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson
import pytest

from gateway.journal import Journal, read

# Another worker: writes a line for each line it is given, and says so, until it is killed.
WORKER = """
import sys
from pathlib import Path
from gateway.journal import Journal

journal = Journal(Path(sys.argv[1]))
for line in sys.stdin:
    journal.append([{"line": line.strip()}])
    print("written", flush=True)
"""


@contextmanager
def worker(folder: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", WORKER, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def write(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{line}\n")
    process.stdin.flush()
    assert process.stdout.readline() == "written\n"


def lines(segments: list[Path]) -> list[str]:
    return [row["line"] for segment in segments for row in read(segment)]


def test_what_was_written_is_there_in_order(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.append([{"line": "un"}, {"line": "deux"}])
    journal.append([{"line": "trois\n"}])
    assert lines(journal.finished()) == ["un", "deux", "trois\n"]


def test_a_segment_that_was_given_away_is_not_written_to_again(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.append([{"line": "un"}])
    (first,) = journal.finished()
    journal.append([{"line": "deux"}])
    assert lines([first]) == ["un"]
    assert lines(journal.finished()) == ["un", "deux"]


def test_a_killed_worker_s_lines_are_taken_over(tmp_path: Path) -> None:
    with worker(tmp_path) as process:
        for line in ("un", "deux"):
            write(process, line)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert lines(Journal(tmp_path).finished()) == ["un", "deux"]


def test_a_living_worker_s_segment_is_left_alone(tmp_path: Path) -> None:
    mine = Journal(tmp_path)
    mine.append([{"line": "mine"}])
    with worker(tmp_path) as process:
        write(process, "theirs")
        assert lines(mine.finished()) == ["mine"]
        write(process, "still theirs")
        assert lines(mine.finished()) == ["mine"]


def test_two_journals_of_one_process_leave_each_other_alone(tmp_path: Path) -> None:
    first, second = Journal(tmp_path), Journal(tmp_path)
    first.append([{"line": "un"}])
    assert second.finished() == []
    first.close()
    assert lines(second.finished()) == ["un"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", []),
        (b'{"line": "un"}\n', ["un"]),
        (b'{"line": "un"}\n{"line": "de', ["un"]),
        (b'{"line": "un"}\n{"line": "de{"line": "trois"}\n{"line": "quatre"}\n', ["un", "quatre"]),
        (b'\n\n{"line": "un"}\n\n', ["un"]),
        (b'{"line": "un"}\n\xff\xff\n', ["un"]),
    ],
    ids=["empty", "whole", "cut at the end", "cut in the middle", "empty lines", "not UTF-8"],
)
def test_a_damaged_line_does_not_hide_the_others(tmp_path: Path, content: bytes, expected: list[str]) -> None:
    segment = tmp_path / "x.jsonl"
    segment.write_bytes(content)
    assert lines([segment]) == expected


def test_segments_come_oldest_first_and_other_files_not_at_all(tmp_path: Path) -> None:
    for age, name in ((100, "b.jsonl"), (300, "a.jsonl"), (200, "c.jsonl"), (400, "d.new"), (500, "e.txt")):
        (tmp_path / name).write_bytes(orjson.dumps({"line": name}) + b"\n")
        os.utime(tmp_path / name, (10_000 - age, 10_000 - age))
    assert lines(Journal(tmp_path).finished()) == ["a.jsonl", "c.jsonl", "b.jsonl"]


def test_the_journal_is_its_owner_s_alone(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "new" / "journal")
    journal.append([{"line": "un"}])
    (segment,) = (tmp_path / "new" / "journal").iterdir()
    assert segment.stat().st_mode & 0o077 == 0
    assert segment.parent.stat().st_mode & 0o077 == 0
