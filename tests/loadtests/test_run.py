"""The figures of a run are those of the moments they are named after; the exit code follows the service levels."""

import subprocess
import sys

import pytest

from tests.loadtests.run import ROOT, locust
from tests.loadtests.script import BETWEEN, FIRST, TAIL, TOKENS, Script, serving

STREAM = (FIRST + (TOKENS - 1) * BETWEEN + TAIL) * 1000


def test_each_event_measures_the_moment_it_is_named_after() -> None:
    script = Script()
    with serving(script) as host:
        report = locust(host, "--streamed", "3", "--plain", "1")
    assert report.code == 0, report.log
    # The role chunk and a comment come before 300 ms; a reader that waits for a full block would say the whole 700 ms.
    assert FIRST * 1000 * 0.9 <= report.median("streamed ttft") < STREAM * 0.75
    assert BETWEEN * 1000 * 0.5 <= report.median("streamed inter_token") < BETWEEN * 1000 * 2.5
    assert STREAM * 0.95 <= report.median("streamed total") < STREAM * 1.7
    assert report.median("plain total") < FIRST * 1000
    streams = report.entries["streamed total"]["num_requests"]
    assert report.entries["streamed ttft"]["num_requests"] == streams
    assert report.entries["streamed inter_token"]["num_requests"] == streams * (TOKENS - 1)
    assert set(report.entries) == {
        "POST login", "GET models", "streamed ttft", "streamed inter_token", "streamed total", "plain total",
    }  # fmt: skip


def test_users_share_one_login_and_ask_the_first_model_in_french() -> None:
    script = Script()
    with serving(script) as host:
        report = locust(host)
    assert report.code == 0, report.log
    assert script.logins == report.entries["GET models"]["num_requests"] == 1
    assert {request["model"] for request in script.requests} == {"perroquet"}
    assert all(request["messages"][0]["content"].endswith("?") for request in script.requests)


def test_a_token_is_renewed_before_it_expires() -> None:
    script = Script(expires_in=1)
    with serving(script) as host:
        report = locust(host, "--streamed", "0", "--hold", "3", "--pause", "0.1")
    assert report.code == 0, report.log
    assert 2 <= script.logins <= 6
    assert report.entries["plain total"]["num_failures"] == 0


@pytest.mark.parametrize(
    ("ending", "failure"),
    [
        ("error", "error event: upstream_lost"),
        ("cut", "ended without [DONE]"),
        ("500", "500 slow_down"),
    ],
)
def test_a_failed_exchange_is_counted_under_its_name_and_breaks_the_run(ending: str, failure: str) -> None:
    with serving(Script(ending=ending)) as host:
        report = locust(host, "--plain", "0", "--pause", "0.2")
    total = report.entries["streamed total"]
    assert total["num_failures"] == total["num_requests"] > 0
    assert failure in report.log
    # The login and the lists of models went well; nothing else did.
    wanted = sum(report.entries[name]["num_requests"] for name in ("POST login", "GET models", "streamed total"))
    assert f"--max-error-share: error share is {total['num_failures'] / wanted:.4f}" in report.log
    assert f"({total['num_failures']} of {wanted}), allowed are 0.01" in report.log
    assert report.code == 1


def test_a_run_within_its_levels_ends_with_0() -> None:
    with serving(Script()) as host:
        report = locust(host, "--plain", "0", "--max-ttft-p95", "2000", "--max-total-p95", "5000")
    assert report.code == 0, report.log
    assert "service levels kept over" in report.log


def test_each_broken_level_is_told_and_the_run_ends_with_1() -> None:
    with serving(Script()) as host:
        report = locust(host, "--max-ttft-p95", "100", "--max-total-p95", "100", "--max-inter-token-p95", "1")
    assert report.code == 1, report.log
    for event in ("ttft", "inter_token", "total"):
        option = f"--max-{event.replace('_', '-')}-p95"
        assert f"service level broken: {option}: p95 of streamed {event} is" in report.log


def test_failures_below_the_allowed_share_do_not_break_the_run() -> None:
    with serving(Script(ending="500")) as host:
        report = locust(host, "--max-error-share", "1", "--pause", "0.2")
    assert report.code == 0, report.log


def test_a_limit_is_neither_an_answer_nor_a_failure() -> None:
    with serving(Script(ending="429")) as host:
        report = locust(host, "--streamed", "0", "--pause", "0.2", "--hold", "1")
    assert report.code == 1
    limited = report.entries["plain limited"]
    assert (limited["num_requests"] > 0, limited["num_failures"]) == (True, 0)
    assert "plain total" not in report.entries
    assert f"nothing was measured; {limited['num_requests']} questions met a limit (429)" in report.log


@pytest.mark.parametrize(
    ("ending", "kind", "sentence"),
    [
        ("429", "over_limit", "over_limit total: Failed('429 without retry-after or code')"),
        ("done", "over_limit", "service level broken: over_limit: none of"),
        ("done", "refused", "refused total: Failed('answered, not refused')"),
    ],
)
def test_what_has_to_be_refused_and_is_not_breaks_the_run(ending: str, kind: str, sentence: str) -> None:
    weights = ["--streamed", "0", "--plain", "0", f"--{kind.replace('_', '-')}", "1"]
    with serving(Script(ending=ending)) as host:
        report = locust(host, *weights, "--pause", "0.2", "--hold", "1")
    assert report.code == 1
    assert sentence in report.log


def test_questions_are_due_whether_or_not_the_last_is_answered() -> None:
    with serving(Script()) as host:
        one = locust(host, "--plain", "0", "--arrival-rate", "10", "-u", "1", "--hold", "3", "--max-error-share", "1")
    assert one.code == 0, one.log
    # One user answers four of them. The others wait, and their wait is counted: in the times or, at the end, as failures.
    unsent = one.entries["arrival unsent"]
    assert unsent["num_requests"] == unsent["num_failures"] > 0
    assert one.median("streamed total") > one.median("arrival wait") > 0
    assert one.median("streamed total") > STREAM * 1.2
    assert f"{unsent['num_requests']} questions were due and found no free user before the end" in one.log


def test_what_is_under_way_at_the_end_of_a_distributed_run_is_counted() -> None:
    with serving(Script()) as host:
        report = locust(host, "--processes", "2", "-u", "20", "--plain", "0", "--arrival-rate", "10")
    assert report.code == 0, report.log
    begun = report.entries["arrival wait"]["num_requests"]
    assert report.entries["streamed total"]["num_requests"] == begun
    assert 5 <= begun <= 45  # 20 in the mean over both processes, of a Poisson process
    assert report.median("streamed total") < STREAM * 1.7  # there was a free user for each


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--levels", "nowhere.toml", "--processes", "2"), "loadtests: nowhere.toml cannot be read as TOML"),
        (("--tenants", "nowhere.csv"), "loadtests: nowhere.csv cannot be read"),
        (("--arrival-rate", "0"), "loadtests: --arrival-rate is 0, allowed is"),
        (("--spike-base", "3"), "loadtests: --spike-base is 3, allowed is a share from 0 to 1"),
    ],
)
def test_options_that_cannot_be_meant_end_the_run_in_one_sentence(options: tuple[str, ...], sentence: str) -> None:
    report = locust("http://127.0.0.1:9", *options)
    assert report.code == 1
    assert sum(line.startswith(sentence) for line in report.log.splitlines()) == 1
    assert "Traceback" not in report.log


def test_a_refused_login_is_a_failure_with_a_name_and_measures_nothing() -> None:
    with serving(Script()) as host:
        report = locust(host, "--pause", "0.2", PASSERELLE_LOAD_PASSWORD="autre chose")
    assert report.code == 1
    assert "400 invalid_grant" in report.log
    assert "nothing was measured" in report.log


def test_a_ready_token_needs_no_login() -> None:
    script = Script()
    with serving(script) as host:
        report = locust(
            host, "--streamed", "0", "--pause", "0.1", PASSERELLE_LOAD_TOKEN="jeton", PASSERELLE_LOAD_USER=""
        )
    assert report.code == 0, report.log
    assert script.logins == 0


def test_without_credentials_the_run_ends_in_one_sentence() -> None:
    report = locust("http://127.0.0.1:9", PASSERELLE_LOAD_USER="", PASSERELLE_LOAD_PASSWORD="")
    assert report.code == 1
    assert report.log.splitlines()[-1].startswith("loadtests: set PASSERELLE_LOAD_USER and PASSERELLE_LOAD_PASSWORD")


def test_a_server_that_is_not_there_is_a_named_failure() -> None:
    report = locust("http://127.0.0.1:9", "--pause", "0.2")
    assert report.code == 1
    assert "no connection: ConnectionRefusedError" in report.log


def test_help_shows_our_options() -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "loadtests", "--help"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    ).stdout
    for option in ("--max-ttft-p95 MS", "--ramp SECONDS", "--streamed WEIGHT", "$PASSERELLE_LOAD_USER"):
        assert option in shown
