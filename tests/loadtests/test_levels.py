"""Service levels: from options and files, and what is said of a broken one."""

from pathlib import Path

import pytest

from loadtests import levels_file
from loadtests.figures import Figures
from loadtests.levels import Level, broken

EXAMPLE = Path(__file__).resolve().parents[2] / "loadtests" / "levels.example.toml"


class Counted:
    """One row of a run's statistics; p50 is 50 ms times `slowness`, p95 95 ms."""

    def __init__(self, method: str, name: str, requests: int, failures: int = 0, slowness: float = 1) -> None:
        self.method, self.name, self.num_requests, self.num_failures = method, name, requests, failures
        self._slowness = slowness

    def get_response_time_percentile(self, percent: float) -> float:
        return 100 * percent * self._slowness


RUN = Figures(
    [
        Counted("POST", "login", 1),
        Counted("streamed", "ttft", 8, slowness=3),
        Counted("streamed", "inter_token", 4000),
        Counted("streamed", "total", 9, 2, slowness=10),
        Counted("streamed", "limited", 1),
        Counted("plain", "total", 10),
        Counted("plain", "ttft", 0),
        Counted("over_limit", "total", 5),
        Counted("over_limit", "limited", 15),
        Counted("tenant mairie", "total", 19, 2),
        Counted("tenant mairie", "limited", 1),
        Counted("arrival", "wait", 40),
        Counted("arrival", "unsent", 3, 3),
    ],
    seconds=10,
)


def test_parts_of_an_exchange_and_tenants_do_not_dilute_the_shares() -> None:
    assert (RUN.exchanges(), RUN.wanted(), RUN.failures()) == (24, 28, 5)
    assert (RUN.limited(), RUN.limited_of()) == (1, 20)  # those that are there to meet a limit are apart
    assert (RUN.limited("over_limit"), RUN.limited_of("over_limit")) == (15, 20)
    assert RUN.rate() == pytest.approx(2.2)


@pytest.mark.parametrize(
    ("toml", "sentences"),
    [
        ("", []),
        ("error_share = 0.2", []),
        ("error_share = 0.1", ["error_share: error share is 0.1786 (5 of 28), allowed are 0.1"]),
        ("limited_share = 0", ["limited_share: share of 429 is 0.0500 (1 of 20), allowed are 0"]),
        ("requests_per_second = 2.2", []),
        (
            "requests_per_second = 3",
            ["requests_per_second: 2.20 requests/s were reached, allowed is no less than 3"],
        ),
        ("[streamed]\nttft_p50_ms = 150\nttft_p95_ms = 285", []),
        (
            "[streamed]\nttft_p50_ms = 149\nttft_p95_ms = 300\nttft_p99_ms = 200",
            [
                "streamed.ttft_p50_ms: p50 of streamed ttft is 150 ms, allowed are 149 ms",
                "streamed.ttft_p99_ms: p99 of streamed ttft is 297 ms, allowed are 200 ms",
            ],
        ),
        (
            "[streamed]\ninter_token_p95_ms = 40\nerror_share = 0.1\nrequests_per_second = 1",
            [
                "streamed.inter_token_p95_ms: p95 of streamed inter_token is 95 ms, allowed are 40 ms",
                "streamed.error_share: error share is 0.2222 (2 of 9), allowed are 0.1",
                "streamed.requests_per_second: 0.70 requests/s were reached, allowed is no less than 1",
            ],
        ),
        ("[refused]\ntotal_p95_ms = 10", ["refused.total_p95_ms: no refused total was measured"]),
        ("[over_limit]\nlimited_share_min = 0.75", []),
        (
            "[over_limit]\nlimited_share_min = 0.8",
            ["over_limit.limited_share_min: share of 429 is 0.7500 (15 of 20), allowed is no less than 0.8"],
        ),
        (
            "[tenant.mairie]\nerror_share = 0.1\ntotal_p95_ms = 95",
            ["tenant.mairie.error_share: error share is 0.1053 (2 of 19), allowed are 0.1"],
        ),
        ("[arrival]\nwait_p99_ms = 50", ["arrival.wait_p99_ms: p99 of arrival wait is 99 ms, allowed are 50 ms"]),
    ],
)
def test_each_broken_level_is_one_sentence(tmp_path: Path, toml: str, sentences: list[str]) -> None:
    file = tmp_path / "levels.toml"
    file.write_text(toml, encoding="utf-8")
    assert broken(levels_file.levels(file), RUN) == sentences


def test_a_run_that_measured_nothing_keeps_no_level() -> None:
    nothing = "no exchange was completed or failed, so nothing was measured"
    assert broken([], Figures([Counted("POST", "login", 3, 3)], 1)) == [nothing]
    limited = Figures([Counted("plain", "limited", 7)], 1)
    assert broken([], limited) == [f"{nothing}; 7 questions met a limit (429): give the users a higher one"]


def test_a_small_limit_that_nobody_meets_is_a_broken_run() -> None:
    assert broken([], Figures([Counted("over_limit", "total", 9)], 1)) == [
        "over_limit: none of 9 questions met a 429, so no limit is kept, or theirs is not small"
    ]
    assert broken([], Figures([Counted("over_limit", "limited", 9)], 1)) == []


def test_an_optional_time_may_go_unmeasured() -> None:
    level = Level("--max-total-p95", "refused", "total_p95_ms", 10, optional=True)
    assert level.broken(RUN) is None


@pytest.mark.parametrize(
    ("toml", "sentence"),
    [
        ("[", "cannot be read as TOML"),
        ("error = 1", "error is unknown, allowed are error_share, limited_share, requests_per_second"),
        ("[drift]", "[drift] is unknown, allowed are streamed, plain, over_limit, refused, arrival, tenant.NAME"),
        ("[plain]\nttft_p95_ms = 3", "plain.ttft_p95_ms is unknown, allowed are error_share"),
        ("[streamed]\nttft_p90_ms = 3", "streamed.ttft_p90_ms is unknown"),
        ("error_share = 1.5", "error_share is 1.5, allowed is a share from 0 to 1"),
        ("error_share = true", "error_share is True, allowed is a share from 0 to 1"),
        ("[streamed]\nttft_p95_ms = 'fast'", "streamed.ttft_p95_ms is 'fast', allowed is a number above 0"),
        ("[streamed]\nttft_p95_ms = 0", "streamed.ttft_p95_ms is 0, allowed is a number above 0"),
        ("[streamed]\nttft_p95_ms = nan", "streamed.ttft_p95_ms is nan, allowed is a number above 0"),
        ("tenant = 1", "tenant is 1, allowed are tables [tenant.NAME]"),
    ],
)
def test_a_file_that_is_wrong_is_told_in_one_sentence(tmp_path: Path, toml: str, sentence: str) -> None:
    file = tmp_path / "levels.toml"
    file.write_text(toml, encoding="utf-8")
    with pytest.raises(SystemExit, match=r"^loadtests: .*levels\.toml") as told:
        levels_file.levels(file)
    assert sentence in str(told.value)


def test_the_example_can_be_read_and_names_every_kind() -> None:
    kinds = {level.kind for level in levels_file.levels(EXAMPLE)}
    assert kinds == {None, "streamed", "plain", "over_limit", "refused", "arrival", "tenant mairie"}
