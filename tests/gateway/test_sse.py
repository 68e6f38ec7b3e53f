import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import sse
from gateway.sse import MAX_EVENT_BYTES, EventParser, EventTooLarge
from tests.gateway.cutting import cut

LINE_ENDS = ("\n", "\r\n", "\r")
PROSE = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\r\n") | st.sampled_from("é€🙂 :\u2028\x85"),
    max_size=20,
)


def parsed(body: list[bytes]) -> list[bytes]:
    parser = EventParser()
    events = [event for piece in body for event in parser.feed(piece)]
    return events + parser.close()


@st.composite
def streams(draw: st.DrawFn) -> tuple[list[bytes], list[bytes]]:
    """A body, cut somewhere, and the data of its events by the standard."""
    end = draw(st.sampled_from(LINE_ENDS))
    lines: list[str] = []
    events: list[str] = []
    for _ in range(draw(st.integers(0, 5))):
        data = draw(st.lists(PROSE, max_size=3))
        for line in data:
            # A space after the colon is swallowed, so one that belongs to the data needs another in front of it.
            spaced = line.startswith(" ") or draw(st.booleans())
            lines.append(f"data:{' ' if spaced else ''}{line}")
            lines += draw(
                st.lists(st.sampled_from([": a comment", "id: 7", "retry: 10", "event: message"]), max_size=2)
            )
        lines.append("")
        if "\n".join(data):
            events.append("\n".join(data))
    body = "".join(line + end for line in lines).encode()
    return draw(cut(body)), [event.encode() for event in events]


@given(streams())
def test_events_do_not_depend_on_where_the_network_cuts_the_bytes(stream: tuple[list[bytes], list[bytes]]) -> None:
    body, events = stream
    assert parsed(body) == events


@pytest.mark.parametrize(
    ("body", "events"),
    [
        pytest.param("data: a\n\n", ["a"], id="an event"),
        pytest.param("data:a\n\n", ["a"], id="no space after the colon"),
        pytest.param("data:  a\n\n", [" a"], id="only one space is swallowed"),
        pytest.param("data: a\ndata: b\n\n", ["a\nb"], id="two data lines are one event"),
        pytest.param("data\ndata: b\n\n", ["\nb"], id="a field without colon is an empty line"),
        pytest.param("data\n\ndata:\n\n", [], id="no data, no event"),
        pytest.param(": ping\n\n: ping\n\n", [], id="comments alone are no event"),
        pytest.param("id: 1\nretry: 3\nevent: x\n\n", [], id="other fields alone are no event"),
        pytest.param("datax: a\n data: b\n\n", [], id="unknown fields are passed over"),
        pytest.param("\n\n\ndata: a\n\n\n", ["a"], id="empty lines between events"),
        pytest.param("data: a\r\rdata: b\r\r", ["a", "b"], id="lone carriage returns"),
        pytest.param("data: a\r\n\r\ndata: b\n\n", ["a", "b"], id="mixed line ends"),
        pytest.param("data: a\n\ndata: b\n", ["a"], id="an unfinished event is discarded"),
        pytest.param("data: a\n\ndata: b", ["a"], id="an unfinished line is discarded"),
        pytest.param("data: a\u2028b\x85c\x0bd\n\n", ["a\u2028b\x85c\x0bd"], id="other line breaks are text"),
    ],
)
def test_a_body_has_the_events_of_the_standard(body: str, events: list[str]) -> None:
    assert parsed([body.encode()]) == [event.encode() for event in events]


def test_an_event_leaves_with_the_bytes_that_complete_it() -> None:
    parser = EventParser()
    assert parser.feed(b"data: a\n") == []
    assert parser.feed(b"\ndata: b\n\nda") == [b"a", b"b"]
    assert parser.feed(b"ta: c\n\n") == [b"c"]


@pytest.mark.parametrize("line", [b"x" * 65_536, b"data: " + b"x" * 65_530 + b"\n"], ids=["one line", "many lines"])
def test_an_event_that_never_ends_is_refused_once_it_is_over_the_bound(line: bytes) -> None:
    parser = EventParser()
    for _ in range(MAX_EVENT_BYTES // 65_536 - 1):
        assert parser.feed(line) == []
    with pytest.raises(EventTooLarge, match=str(MAX_EVENT_BYTES)):
        parser.feed(line * 2)


def test_many_small_events_are_never_too_large() -> None:
    parser = EventParser()
    for _ in range(MAX_EVENT_BYTES // 65_536 + 2):
        assert parser.feed(b"data: " + b"x" * 65_530 + b"\n\n")


@given(PROSE.filter(bool))
def test_an_event_that_goes_out_comes_in_again(text: str) -> None:
    assert parsed([sse.event(text.encode())]) == [text.encode()]
