"""The parts of a run that are pure: events out of lines, levels, the shape, the login."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.answer import Failed, Moments, check_plain, first_model, follow, has_content, reason
from loadtests.levels import Figures, Levels, figures
from loadtests.login import Credentials, Grant, Login, grant
from loadtests.ramp import users_at
from loadtests.sse import events


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (b"data: a\n\ndata: b\n\n", [b"a", b"b"]),
        (b"data:a\r\n\r\ndata: b\r\n\r\n", [b"a", b"b"]),
        (b": keep-alive\n\ndata: a\n\n", [b"a"]),
        (b": one\ndata: a\n: two\n\n", [b"a"]),
        (b"data:  a\n\n", [b" a"]),
        (b"data: a\ndata: b\n\n", [b"a\nb"]),
        (b"event: x\nid: 7\nretry: 1\ndata: a\n\n", [b"a"]),
        (b"\n\n\ndata: a\n\n\n\n", [b"a"]),
        (b"data: a\n\ndata: cut", [b"a"]),
        (b"data: a", []),
        ("data: é…\n\n".encode(), ["é…".encode()]),
    ],
)
def test_events_are_what_a_browser_would_see(stream: bytes, expected: list[bytes]) -> None:
    assert list(events(stream.splitlines(keepends=True))) == expected


@given(st.lists(st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), min_size=1), min_size=1))
def test_what_goes_in_as_events_comes_out_as_events(texts: list[str]) -> None:
    lines = [line for text in texts for line in (f"data: {text}\n".encode(), b"\n")]
    assert list(events(lines)) == [text.encode() for text in texts]


def test_an_event_is_given_when_its_empty_line_arrives_and_not_later() -> None:
    def lines() -> list[bytes]:
        return [b"data: a\n", b"\n", b"data: b\n"]

    read: list[bytes] = []
    source = (read.append(line) or line for line in lines())  # type: ignore[func-returns-value]
    assert next(events(source)) == b"a"
    assert read == [b"data: a\n", b"\n"]


@pytest.mark.parametrize(
    ("chunk", "expected"),
    [
        ({"choices": [{"delta": {"content": "Bonjour"}}]}, True),
        ({"choices": [{"delta": {}}, {"delta": {"content": "x"}}]}, True),
        ({"choices": [{"delta": {"role": "assistant", "content": ""}}]}, False),
        ({"choices": [{"delta": {"content": None}, "finish_reason": "stop"}]}, False),
        ({"choices": [{"delta": None}]}, False),
        ({"choices": [], "usage": {"total_tokens": 9}}, False),
        ({}, False),
    ],
)
def test_only_text_counts_as_content(chunk: dict[str, object], expected: bool) -> None:
    assert has_content(json.dumps(chunk).encode()) is expected


def _followed(*data: str) -> Moments:
    ticks = iter(range(1, 100))
    lines = [line for event in data for line in (f"data: {event}\n".encode(), b"\n")]
    moments = Moments(started=0)
    follow(lines, moments, lambda: next(ticks))
    return moments


TEXT = json.dumps({"choices": [{"delta": {"content": "x"}}]})
ROLE = json.dumps({"choices": [{"delta": {"role": "assistant"}}]})


def test_first_and_gaps_are_between_pieces_of_content() -> None:
    moments = _followed(ROLE, TEXT, ROLE, TEXT, TEXT, "[DONE]")
    assert moments.first == 2
    assert moments.gaps == [2, 1]


@pytest.mark.parametrize(
    ("data", "name"),
    [
        ([TEXT], "ended without [DONE]"),
        ([], "ended without [DONE]"),
        ([ROLE, "[DONE]"], "no content"),
        ([TEXT, "{"], "not JSON"),
        ([TEXT, "[1]"], "not a JSON object"),
        ([TEXT, '{"error": {"code": "upstream_lost", "type": "server_error"}}'], "error event: upstream_lost"),
        (['{"error": {"type": "server_error"}}', "[DONE]"], "error event: server_error"),
    ],
)
def test_a_stream_that_fails_has_a_name(data: list[str], name: str) -> None:
    with pytest.raises(Failed, match=f"^{name.replace('[', '.').replace(']', '.')}$"):
        _followed(*data)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"error": {"code": "a", "type": "b"}}', "a"),
        (b'{"error": {"code": null, "type": "b"}}', "b"),
        (b'{"error": "invalid_grant"}', "invalid_grant"),
        (b'{"detail": "x"}', ""),
        (b"<html>", ""),
        (b"", ""),
    ],
)
def test_the_reason_of_an_error_body(body: bytes, expected: str) -> None:
    assert reason(body) == expected


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b'{"choices": []}', b'{"choices": [{"message": {"content": ""}}]}']
)
def test_a_plain_answer_needs_text(body: bytes) -> None:
    with pytest.raises(Failed):
        check_plain(body)


@pytest.mark.parametrize("body", [b"", b"{}", b'{"data": []}', b'{"data": [{}]}'])
def test_a_list_without_models_is_a_failure(body: bytes) -> None:
    with pytest.raises(Failed):
        first_model(body)


KEPT = Figures(
    exchanges=100, wanted=101, failures=1, p95={"streamed ttft": 300, "streamed total": 900, "plain total": 800}
)


@pytest.mark.parametrize(
    ("levels", "sentences"),
    [
        (Levels(), []),
        (Levels(error_share=0.01, ttft_p95=300, total_p95=900), []),
        (Levels(error_share=0), ["error share is 0.0099 (1 of 101), allowed are 0"]),
        (Levels(ttft_p95=299), ["p95 of streamed ttft is 300 ms, allowed are 299 ms"]),
        (
            Levels(total_p95=700),
            ["p95 of streamed total is 900 ms, allowed are 700 ms", "p95 of plain total is 800 ms, allowed are 700 ms"],
        ),
        (Levels(inter_token_p95=50), ["no streamed inter_token was measured, but a level is set for it"]),
    ],
)
def test_each_broken_level_is_one_sentence(levels: Levels, sentences: list[str]) -> None:
    assert levels.broken(KEPT) == sentences


def test_a_run_that_measured_nothing_keeps_no_level() -> None:
    assert Levels().broken(Figures(wanted=3, failures=3)) == [
        "no exchange was completed or failed, so nothing was measured"
    ]


class _Entry:
    def __init__(self, method: str, name: str, num_requests: int, num_failures: int = 0) -> None:
        self.method, self.name, self.num_requests, self.num_failures = method, name, num_requests, num_failures

    def get_response_time_percentile(self, percent: float) -> float:
        return 100 * percent


def test_parts_of_an_exchange_do_not_dilute_the_error_share() -> None:
    measured = figures(
        [
            _Entry("POST", "login", 1),
            _Entry("streamed", "ttft", 8),
            _Entry("streamed", "inter_token", 4000),
            _Entry("streamed", "total", 9, 2),
            _Entry("plain", "total", 0),
        ]
    )
    assert (measured.exchanges, measured.wanted, measured.failures) == (9, 10, 2)
    assert measured.p95 == {"POST login": 95, "streamed ttft": 95, "streamed inter_token": 95, "streamed total": 95}


@pytest.mark.parametrize(
    ("elapsed", "users"), [(0, 1), (14.9, 5), (15, 5), (29.9, 10), (30, 10), (149.9, 10), (150, None), (900, None)]
)
def test_users_come_evenly_and_stay(elapsed: float, users: int | None) -> None:
    assert users_at(elapsed, users=10, ramp=30, hold=120) == users


def test_without_a_ramp_all_users_are_there_at_once() -> None:
    assert users_at(0, users=7, ramp=0, hold=1) == 7


def test_a_login_lasts_four_fifths_of_its_tokens_life() -> None:
    now = [0.0]
    given = iter([Grant("a", 100), Grant("b", 100), Grant("c", 100)])
    login = Login(Credentials("u", "p", ""), clock=lambda: now[0])
    seen = []
    for now[0] in (0.0, 79.9, 80.0, 100.0):
        seen.append(login.token(lambda form: next(given)))
    assert seen == ["a", "a", "b", "b"]
    login.refused("a")  # an old one: somebody has logged in since
    assert login.token(lambda form: next(given)) == "b"
    login.refused("b")
    assert login.token(lambda form: next(given)) == "c"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"access_token": "a", "expires_in": 900}', Grant("a", 900)),
        (b'{"access_token": "a"}', Grant("a", 60)),
    ],
)
def test_a_grant_is_read(body: bytes, expected: Grant) -> None:
    assert grant(body) == expected


def test_a_grant_without_a_token_is_a_failure() -> None:
    with pytest.raises(Failed, match="login without access_token"):
        grant(b'{"expires_in": 900}')
