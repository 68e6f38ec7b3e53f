"""A behaviour that every client library must see alike: what is asked, what the model servers do, what is seen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.contract.calls import Call, Seen
from tests.house import MODEL, House
from tests.upstream import Script, refuses, says

SENTENCES = ("Vous pouvez suivre votre avis en ligne. ", "Merci de votre patience.")
TEXT = "".join(SENTENCES)
TERM = "zorglub"


@dataclass(frozen=True)
class Scenario:
    """`expects` is compared with `summary`; `asked` are fields that the model server must have got, as they were sent.

    Both targets follow `script`s in turn, the last one for ever; the outside one refuses unless it is told otherwise.
    `key` is the caller's, if not a good token.
    """

    behaviour: str
    call: Call
    expects: dict[str, Any]
    local: tuple[Script, ...] = (says(*SENTENCES),)
    outside: tuple[Script, ...] = (refuses(503),)
    asked: dict[str, Any] = field(default_factory=dict)
    key: Callable[[House], str] = lambda home: home.token()


def chat(*, stream: bool = False, leave_after: int | None = None, max_retries: int = 0, **body: Any) -> Call:
    """A chat completion; `body` adds to a plain question or changes it."""
    question = [{"role": "user", "content": "Comment suivre mon avis ?"}]
    whole = {"model": MODEL, "messages": question, **({"stream": True} if stream else {}), **body}
    return Call("chat.completions.create", whole, leave_after=leave_after, max_retries=max_retries)


def answered(*texts: str, kind: str = "chat.completion", finish: str | None = "stop", **more: Any) -> dict[str, Any]:
    """The summary of an answer: one choice for each text, and the usage that `says` gives for two pieces."""
    choices = [{"text": text, "finish": finish} for text in texts]
    return {"object": kind, "model": MODEL, "choices": choices, "usage": [7, 2, 9], **more}


def streamed(
    *texts: str, kind: str = "chat.completion.chunk", finish: str | None = "stop", **more: Any
) -> dict[str, Any]:
    """The summary of a stream without usage."""
    return {**answered(*texts, kind=kind, finish=finish), "usage": None, **more}


def failed(name: str, status: int | None, code: str | None, kind: str, **more: Any) -> dict[str, Any]:
    """The summary of a call that raises."""
    told = {"class": name, "status": status, "code": code, "type": kind, "param": None, "retry_after": None}
    return {"error": {**told, **more}}


def summary(seen: Seen) -> dict[str, Any]:
    """What is seen without what differs from call to call: ids, times, the words of an error."""
    found: dict[str, Any] = {}
    if seen.items:
        found["items"] = seen.items
    if seen.chunks:
        found |= _joined(seen.chunks)
    elif seen.answer is not None:
        found |= _whole(seen.answer)
    if seen.error is not None:
        found["error"] = {name: value for name, value in seen.error.items() if name not in ("message", "request_id")}
    return found


def _whole(answer: dict[str, Any]) -> dict[str, Any]:
    if "choices" not in answer:
        return answer
    choices = []
    for choice in answer["choices"]:
        said = choice.get("message", choice)
        shown = {"text": said["content"] if "message" in choice else said["text"], "finish": choice["finish_reason"]}
        if calls := said.get("tool_calls"):
            shown["tools"] = [_tool(call) for call in calls]
        if logprobs := choice.get("logprobs"):
            shown["tokens"] = [entry["token"] for entry in logprobs["content"]]
        choices.append(shown)
    return {**_of(answer), "choices": choices, "usage": _counts(answer["usage"])}


def _joined(chunks: list[dict[str, Any]]) -> dict[str, Any]:
    choices: dict[int, dict[str, Any]] = {}
    for chunk in chunks:
        for choice in chunk["choices"]:
            shown = choices.setdefault(choice["index"], {"text": "", "finish": None})
            said = choice.get("delta", choice)
            shown["text"] += said.get("content") or said.get("text") or ""
            shown["finish"] = choice["finish_reason"] or shown["finish"]
            for part in said.get("tool_calls") or ():
                _add(shown.setdefault("tools", []), part)
    with_usage = [chunk for chunk in chunks if chunk.get("usage")]
    assert with_usage in ([], chunks[-1:]), "usage comes once and last"
    assert all(chunk["choices"] == [] for chunk in with_usage), "the chunk with usage has no choices"
    assert len({(chunk["id"], chunk["created"]) for chunk in chunks}) == 1, "all chunks are of one answer"
    counts = _counts(with_usage[0]["usage"]) if with_usage else None
    return {**_of(chunks[0]), "choices": [choices[index] for index in sorted(choices)], "usage": counts}


def _of(answer: dict[str, Any]) -> dict[str, Any]:
    return {"object": answer["object"], "model": answer["model"]}


def _counts(usage: dict[str, Any]) -> list[int]:
    return [usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]]


def _tool(call: dict[str, Any]) -> dict[str, Any]:
    return {"id": call["id"], **{name: call["function"][name] for name in ("name", "arguments")}}


def _add(calls: list[dict[str, Any]], part: dict[str, Any]) -> None:
    """What an application does with the pieces of a streamed call: the first names it, all add to its arguments."""
    if part["index"] == len(calls):
        calls.append({"id": part["id"], "name": part["function"]["name"], "arguments": ""})
    calls[part["index"]]["arguments"] += part["function"].get("arguments") or ""
