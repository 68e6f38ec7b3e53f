"""What callers are told of limits: refusals and headers."""

import pytest

from gateway.errors import GatewayError, InsufficientQuota, RateLimited
from gateway.limits.checks import Reservation, Standing, duration
from tests.gateway.test_limits import MONEY, PLACES, RPM, TPD, TPM, check

RETRY = "retry-after"
SOON, NOT = {RETRY: "1"}, {"x-should-retry": "false"}


def refusal(*standings: Standing) -> GatewayError:
    return Reservation("i", standings, refused=True).error()


@pytest.mark.parametrize(
    ("standing", "kind", "words", "headers"),
    [
        (Standing(check(RPM, 60), 0.5), "requests", "limit 60, used 60, requested 1. Please try again in 500ms", SOON),
        (Standing(check(TPM, 1000, 400), 300), "tokens", "used 700, requested 400. Please try again in 6s", {RETRY: "6"}),
        (Standing(check(TPM, 1000, 1001), 1000), "tokens", "Request too large for this user on tokens per minute", SOON | NOT),
        (Standing(check(TPD, 1000, 400), 300, 300), "tokens", "tokens per day", SOON),
        (Standing(check(TPD, 1000, 400), 300, 700), "tokens", "try again in 1h0m0s", {RETRY: "3600"} | NOT),
        (Standing(check(PLACES, 2), 0), "requests", "requests at once: limit 2, used 2, requested 1", SOON),
        (Standing(check(MONEY, 100, 40), 30, 30), "requests", "the budget: Please try again in 1s", SOON),
    ],
)  # fmt: skip
def test_a_refusal_says_which_limit_where_it_stands_and_when_to_come_back(
    standing: Standing, kind: str, words: str, headers: dict[str, str]
) -> None:
    error = refusal(standing)
    assert isinstance(error, RateLimited)
    assert not isinstance(error, InsufficientQuota)
    assert (error.type, error.code, error.headers) == (kind, "rate_limit_exceeded", headers)
    assert words in str(error)


def test_a_budget_that_is_spent_is_another_error_and_goes_before_all_others() -> None:
    error = refusal(Standing(check(RPM, 60), 0), Standing(check(MONEY, 100, 40), 30, 70), Standing(check(TPM, 1, 5), 1))
    assert (error.status, error.type, error.code) == (429, "insufficient_quota", "insufficient_quota")
    assert error.headers == {"retry-after": "86400", "x-should-retry": "false"}


def headers(*standings: Standing) -> dict[str, str]:
    return {name.removeprefix("x-ratelimit-"): value for name, value in Reservation("i", standings).headers().items()}


def test_the_headers_are_those_openai_sends_of_the_limit_with_the_least_left() -> None:
    assert headers() == {}
    assert headers(Standing(check(PLACES, 2), 0)) == {}
    assert headers(
        Standing(check(RPM, 60), 58.9), Standing(check(RPM, 600), 30), Standing(check(TPM, 1000), 900.7)
    ) == {
        "limit-requests": "600", "remaining-requests": "30", "reset-requests": "57s",
        "limit-tokens": "1000", "remaining-tokens": "900", "reset-tokens": "5.958s",
    }  # fmt: skip
    assert headers(Standing(check(TPD, 500), -3, 503)) == {
        "limit-tokens": "500", "remaining-tokens": "0", "reset-tokens": "1h0m0s",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("seconds", "written"),
    [(0, "0s"), (0.0061, "7ms"), (1, "1s"), (1.5, "1.5s"), (59.9999, "60s"), (61, "1m1s"), (86_399.2, "24h0m0s")],
)
def test_durations_are_written_as_openai_writes_them(seconds: float, written: str) -> None:
    assert duration(seconds) == written
