"""The parts of a run that are pure: events out of lines, what an answer holds, the login."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.answer import Failed, Moments, content, first_model, follow, reason, text
from loadtests.login import Credentials, Grant, Login, grant
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
        ({"choices": [{"delta": {"content": "Bonjour"}}]}, "Bonjour"),
        ({"choices": [{"delta": {}}, {"delta": {"content": "x"}}]}, "x"),
        ({"choices": [{"delta": {"role": "assistant", "content": ""}}]}, ""),
        ({"choices": [{"delta": {"content": None}, "finish_reason": "stop"}]}, ""),
        ({"choices": [{"delta": None}]}, ""),
        ({"choices": [], "usage": {"total_tokens": 9}}, ""),
        ({}, ""),
    ],
)
def test_only_text_counts_as_content(chunk: dict[str, object], expected: str) -> None:
    assert content(json.dumps(chunk).encode()) == expected


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
        text(body)


@pytest.mark.parametrize("body", [b"", b"{}", b'{"data": []}', b'{"data": [{}]}'])
def test_a_list_without_models_is_a_failure(body: bytes) -> None:
    with pytest.raises(Failed):
        first_model(body)


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
