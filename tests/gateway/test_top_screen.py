"""How `passerelle top` looks in terminals of several widths: names of 16 characters are whole."""

import re

import msgspec
import pytest

from gateway.commands.looks import Seen, rates
from gateway.live import Judged
from gateway.status.report import Status
from tests.gateway.test_top_looks import limit, running, shown, status

LONG = {"target": "falcon-h1-34b-fr", "model": "assistant-public", "tenant": "prefecture-rhone"}
ID = "req_28ecc08bef3f4d0ca3617029e5668e3e"


def busy(second: float = 2) -> Status:
    """Where every name has 16 characters."""
    now = status(second, ["a", "b"], generated=1000.0 * second, requests=int(second), tokens=int(100 * second))
    assert now.installation is not None
    (target,) = now.installation.targets
    target.name, target.models, target.in_flight, target.waiting = (
        LONG["target"],
        [LONG["model"], "assistant-etudes"],
        4,
        2,
    )
    target.replicas[0].breaker, target.replicas[0].down = "open", True
    now.installation.minute = Judged(french=40, repaired=5, not_french=1)
    of = {"tenant": LONG["tenant"], "model": LONG["model"], "target": LONG["target"]}
    now.requests, now.in_flight = [running(12, request_id=ID, state="answering", **of)], 1
    until = "2027-11-27T00:00:00+00:00"
    now.limits = [
        limit(11_112, limit=20_000, name="claire.fontaines", tenant=LONG["tenant"], until=until),
        limit(1.45, limit=60, scope="address", name="2001:db8:12::/64", tenant=None, measure="requests_per_minute"),
    ]
    return now


def row_of(text: str, *words: str) -> list[str]:
    """The cells of the one line that holds these words."""
    (line,) = [line for line in text.splitlines() if all(word in line for word in words)]
    return re.split(r" {2,}", line)


@pytest.mark.parametrize("width", [60, 80, 120, 160])
def test_what_matters_is_whole_at_every_width(width: int) -> None:
    text = shown(Seen("http://127.0.0.1:45531", busy(), rates(busy(0), busy())), width=width)
    assert max(map(len, text.splitlines())) <= width
    assert all(line == line.rstrip() for line in text.splitlines())
    assert re.search(r"2 of 2\b", text)
    assert all(
        word in text for word in ("98%", "40/5/1/0", "2026-11-01 08:00:00", "127.0.0.1:45531", "assistant-etudes")
    )
    target = row_of(text, LONG["target"], "assistant-public", "  4  ")
    assert (target[0], target[-3:]) == (LONG["target"], ["4", "2", "4"])
    assert row_of(text, "replica", "breaker", "probes", "wait")
    replica = row_of(text, f"{LONG['target']}/0", "open")
    assert {"open", "down", "1", "2", "3", "50%"} <= set(replica)
    assert {"user", "claire.fontaines", "tokens/day", "11,112", "20,000"} <= set(row_of(text, "claire.fontaines"))
    assert {"address", "requests/min", "1.45", "60"} <= set(row_of(text, "2001:db8:12::/64"))
    request = row_of(text, LONG["tenant"], LONG["model"], "answering")
    assert {LONG["tenant"], LONG["model"], "answering", "12.0"} <= set(request)
    if width >= 80:
        assert request[0] == (ID if width >= 120 else f"{ID[:12]}…")
        assert LONG["tenant"] in row_of(text, "claire.fontaines")
        assert "1000" in replica  # tokens a second
    assert "…" not in text.replace(f"{ID[:12]}…", "")


def left_out(heads: str, width: int) -> set[str]:
    """The heads of the columns that a table of 160 columns has and one of this width has not."""
    seen = Seen("http://127.0.0.1:45531", busy(), rates(busy(0), busy()))
    wide, narrow = (row_of(shown(seen, width=columns), heads) for columns in (160, width))
    short = {"tokens/s": "tok/s", "KV cache": "KV", "running": "run", "waiting": "wait"}
    return {head for head in wide if not {head, short.get(head)} & set(narrow)}


@pytest.mark.parametrize(
    ("heads", "width", "expected"),
    [
        ("replica ", 120, set()),
        ("replica ", 80, {"address"}),
        ("replica ", 60, {"address", "tokens/s"}),
        ("limit of", 80, {"until"}),
        ("limit of", 60, {"until", "tenant"}),
        ("seconds", 120, set()),
        ("seconds", 80, {"target"}),
        ("seconds", 60, {"target", "tokens", "request"}),
    ],
)
def test_columns_are_left_out_in_the_order_that_the_page_says(heads: str, width: int, expected: set[str]) -> None:
    assert left_out(heads, width) == expected


@pytest.mark.parametrize("width", [20, 40, 60, 80])
def test_several_gateways_and_the_narrowest_terminal_stay_in_their_lines(width: int) -> None:
    seen = [Seen(f"http://10.0.0.{number}:8000", busy(), rates(busy(0), busy())) for number in (5, 6)]
    text = shown(*seen, width=width)
    assert max(map(len, text.splitlines())) <= width
    assert all(line == line.rstrip() for line in text.splitlines())
    assert text.count("10.0.0.6:8000") >= (3 if width >= 60 else 1)
    if width == 80:
        assert "…" not in text.replace(f"{ID[:12]}…", "")


def test_a_long_list_of_models_goes_on_in_the_next_lines_and_ends() -> None:
    now = busy()
    assert now.installation is not None
    now.installation.targets[0].models = [f"assistant-{number:06}" for number in range(9)]
    lines = shown(Seen("http://gw", now), width=80).splitlines()
    first = next(number for number, line in enumerate(lines) if "assistant-000000" in line)
    assert "assistant-000001" in lines[first]
    assert "assistant-000003" in lines[first + 1]
    assert lines[first + 2].endswith("…")
    assert lines[first + 3] == ""


def test_why_metrics_cannot_be_used_is_said_once_for_all_replicas() -> None:
    now = busy()
    assert now.installation is not None
    (target,) = now.installation.targets
    target.replicas.append(msgspec.structs.replace(target.replicas[0], index=1))
    for replica in target.replicas:
        replica.problem = "they answer with status 404"
    text = shown(Seen("http://gw", now), width=80)
    named = f"gw: metrics of {LONG['target']}/0, {LONG['target']}/1: they answer with status 404"
    assert " ".join(text.split()).count(named) == 1


def test_in_24_lines_there_is_room_for_limits_and_requests() -> None:
    now = busy()
    now.requests *= 20
    now.limits *= 20
    text = shown(Seen("http://gw", now, rates(busy(0), now)), width=80, height=24)
    assert len(text.splitlines()) <= 24
    assert text.count(ID[:12]) >= 3
    assert text.count("tokens/day") + text.count("requests/min") >= 3
