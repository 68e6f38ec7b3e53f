"""Whatever a model server writes and however the network cuts it, a stream keeps its promises."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.house import LOOKING_ON, MODEL, House, house
from tests.upstream import Exchange, chunk, usage

TEXT = st.text(st.sampled_from("abcdé œ’«»\U0001f600\n.!? "), min_size=1, max_size=12)
NOISE = st.sampled_from([": keep-alive\n\n", "retry: 10\n\n", "id: 7\n\n", "data:\n\n", "event: x\n\n"])
ENDINGS = ("whole", "no usage", "no done", "cut", "ends", "error", "error, then done", "garbage")


@dataclass(frozen=True)
class Told:
    """What the fake says: pieces of text with noise between, an ending, and how it is written and cut."""

    pieces: list[str]
    noise: list[str]
    ending: str
    crlf: bool
    spaced: bool
    size: int

    def body(self) -> bytes:
        events = [chunk({"role": "assistant", "content": ""})]
        events += [chunk({"content": piece}) for piece in self.pieces]
        if self.ending in ("whole", "no usage", "no done"):
            events.append(chunk({}, finish="stop"))
        if self.ending == "whole":
            events.append(usage(3, len(self.pieces)))
        if self.ending.startswith("error"):
            events.append({"error": {"message": "engine died", "type": "server_error", "code": 500}})
        mark = "data: " if self.spaced else "data:"
        lines = [f"{mark}{json.dumps(event, ensure_ascii=False)}\n\n" for event in events]
        lines += [f"{mark}[DONE]\n\n"] if self.ending in ("whole", "no usage", "error, then done") else []
        lines += [f"{mark}{{\n\n"] if self.ending == "garbage" else []
        noisy = [part for pair in zip(self.noise, lines, strict=False) for part in pair] + lines[len(self.noise) :]
        text = "".join(noisy)
        return (text.replace("\n", "\r\n") if self.crlf else text).encode()

    async def __call__(self, exchange: Exchange) -> None:
        await exchange.head()
        body = self.body()
        for start in range(0, len(body), self.size):
            await exchange.send(body[start : start + self.size])
        if self.ending == "cut":
            exchange.cut()
        else:
            await exchange.end()


TOLD = st.builds(
    Told,
    pieces=st.lists(TEXT, min_size=1, max_size=8),
    noise=st.lists(NOISE, max_size=4),
    ending=st.sampled_from(ENDINGS),
    crlf=st.booleans(),
    spaced=st.booleans(),
    size=st.sampled_from([1, 3, 17, 100, 5000]),
)


async def events_of(home: House, *, include_usage: bool) -> tuple[int, list[str]]:
    """The status and the data of each event, split strictly: what the gateway writes has one form."""
    ask: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "Bonjour"}], "stream": True}
    if include_usage:
        ask["stream_options"] = {"include_usage": True}
    headers = {"authorization": f"Bearer {home.token(may_leave=False)}"}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{home.url}/v1/chat/completions", json=ask, headers=headers) as answer,
    ):
        text = (await answer.read()).decode()
    if answer.status != 200:
        assert set(json.loads(text)["error"]) == {"message", "type", "param", "code"}
        return answer.status, []
    events = text.split("\n\n")
    assert events.pop() == ""
    assert all(event.startswith("data: ") and "\n" not in event for event in events)
    return 200, [event.removeprefix("data: ") for event in events]


@pytest.fixture
async def patient_home(tmp_path: Path) -> AsyncIterator[House]:
    """A gateway that goes on asking a server that fails again and again; the language is only annotated."""
    async with house(tmp_path, guards=LOOKING_ON, routing={"failures": 1_000_000}) as running:
        yield running


@pytest.mark.timeout(300)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(told=TOLD, include_usage=st.booleans())
async def test_a_stream_keeps_its_promises(patient_home: House, told: Told, include_usage: bool) -> None:
    patient_home.local.answers(told)
    status, events = await events_of(patient_home, include_usage=include_usage)
    if status != 200:
        assert told.ending not in ("whole", "no usage", "no done")
        return
    done = events[-1] == "[DONE]"
    parsed = [json.loads(event) for event in (events[:-1] if done else events)]
    said = "".join(told.pieces)
    text = "".join(part["delta"].get("content") or "" for event in parsed for part in event.get("choices", ()))
    finishes = [part["finish_reason"] for event in parsed for part in event.get("choices", ()) if part["finish_reason"]]
    errors = [event for event in parsed if "error" in event]
    assert said.startswith(text)  # what was released is a beginning of what the model server said, and said once
    assert done != bool(errors)  # one terminal event, and [DONE] only after success
    assert len(errors) <= 1
    assert finishes == (["stop"] if done else [])  # no finish is invented
    if done:
        assert text == said
        assert told.ending in ("whole", "no usage", "no done")
        assert sum(event.get("usage") is not None for event in parsed) == int(include_usage)
        assert not include_usage or parsed[-1]["choices"] == []
    else:
        assert "error" in parsed[-1]
        assert told.ending not in ("whole", "no usage", "no done")
