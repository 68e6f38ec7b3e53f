"""One target's chunks -> the chunks that may leave: gated text, our own envelope, nothing lost that OpenAI's format carries.

Chunks follow the OpenAI API reference, "The chat completion chunk object".
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Final

from gateway.errors import UpstreamFailed
from gateway.failure import Failure
from gateway.guardrails.gate import Gate, Stage
from gateway.guardrails.loops import Loop
from gateway.upstream import Chunk

# Text of a delta that is prose and passes a gate. Reasoning is not delivered: it is the model's own talk, in any language.
_GATED: Final = ("content", "refusal")
_PIECE: Final = 128  # characters
_WITHHELD: Final = frozenset({"role", "reasoning", "reasoning_content", *_GATED})


class Choice:
    """One of the `n` answers: its gates, and what is held back with the text.

    `said` is what has been delivered, `tokens` how many tokens of the try under way that was.
    """

    def __init__(
        self, index: int, gate: Callable[[], Gate], *, strip: bool, restorer: Callable[[], Stage] | None = None
    ) -> None:
        self.index = index
        self.finish: str | None = None
        self._new_gate = gate
        self._gates: dict[str, Gate] = {}
        self._strip = strip
        self._restorer = restorer
        self._calls: dict[int, Stage] = {}  # what puts values back into the arguments of each call of a tool
        self._begun = False
        self._spaced = True  # whether what comes may follow what is there already
        self._received = 0
        self._delivered = 0
        self._marks: deque[tuple[int, int]] = deque()  # characters received, and the tokens by then
        self.said: list[str] = []
        self.tokens = 0
        self._logprobs: list[tuple[int, dict[str, Any]]] = []

    @property
    def gates(self) -> list[Gate]:
        """The gates text has passed through."""
        return list(self._gates.values())

    def take(self, delta: dict[str, Any], logprobs: dict[str, Any] | None, tokens: int = 0) -> Iterator[dict[str, Any]]:
        """The deltas that may leave now, each with its log probabilities under `logprobs`; raises Violation.

        `tokens` is how many the try has made by now.
        """
        self._received += sum(len(delta.get(field) or "") for field in _GATED)
        self._marks.append((self._received, tokens))
        if logprobs:  # also of a token without text, such as half a character
            self._logprobs.append((self._received, logprobs))
        for field in _GATED:
            text = delta.get(field)
            if not text:
                continue
            if not self._spaced:  # a tokenizer may leave out the space before its first word
                text, self._spaced = (f" {text}" if text[0].isalnum() else text), True
            for piece in _pieces(text):
                yield from self._text(field, self._gate(field).feed(piece))
        rest = {key: value for key, value in delta.items() if key not in _WITHHELD and value is not None}
        if rest:
            yield from self._flush()
            if self._restorer is not None and "tool_calls" in rest:
                rest["tool_calls"] = [self._restored(call) for call in rest["tool_calls"]]
            yield {"delta": self._with_role(rest)}

    def end(self, finish: str) -> Iterator[dict[str, Any]]:
        """The rest of the text and the finish; raises Violation."""
        yield from self._flush()
        yield from self._flush_calls()
        self.finish = finish  # not before: a choice whose rest is stopped by a guard is still open, and ends by `block`
        last = {"delta": self._with_role({}), "finish_reason": finish}
        if self._logprobs:
            last["logprobs"] = _joined([logprobs for _, logprobs in self._logprobs])
        yield last

    def block(self, closing: str, finish: str = "content_filter") -> list[dict[str, Any]]:
        """What is held is dropped; a closing sentence of ours and the finish end the choice."""
        self.finish = finish
        last = [{"delta": self._with_role({"content": closing})}] if closing else []
        return [*last, {"delta": self._with_role({}), "finish_reason": finish}]

    def cut(self) -> list[dict[str, Any]]:
        """What is held is dropped, and the choice ends as one that became too long."""
        self.finish = "length"
        return [{"delta": self._with_role({}), "finish_reason": "length"}]

    def resume(self, opening: str) -> list[dict[str, Any]]:
        """Go on with another try, whose text begins with `opening`; raises Violation."""
        self._gates.clear()
        self._marks.clear()
        self._logprobs.clear()
        self._received, self._delivered, self.tokens = len(opening), 0, 0
        self._spaced = False
        return self._text("content", self._gate("content").feed(opening))

    def _gate(self, field: str) -> Gate:
        if field not in self._gates:
            self._gates[field] = self._new_gate()
        return self._gates[field]

    def _restored(self, call: dict[str, Any]) -> dict[str, Any]:
        function = call.get("function")
        if self._restorer is None or not function or not function.get("arguments"):
            return call
        stage = self._calls.setdefault(call.get("index") or 0, self._restorer())
        return {**call, "function": {**function, "arguments": stage.feed(function["arguments"])}}

    def _flush_calls(self) -> Iterator[dict[str, Any]]:
        for index, stage in self._calls.items():
            if rest := stage.finish():
                yield {"delta": {"tool_calls": [{"index": index, "function": {"arguments": rest}}]}}

    def _flush(self) -> list[dict[str, Any]]:
        return [entry for field, gate in self._gates.items() for entry in self._text(field, gate.finish())]

    def _text(self, field: str, released: str) -> list[dict[str, Any]]:
        self._delivered += len(released)
        while self._marks and self._marks[0][0] <= self._delivered:
            self.tokens = self._marks.popleft()[1]
        if self._strip:
            released = released.lstrip()
            self._strip = not released
        if not released:
            return []
        self.said.append(released)
        if self._logprobs and self._gate(field).masked:
            self._logprobs.clear()  # they would show what is masked
        entry: dict[str, Any] = {"delta": self._with_role({field: released})}
        due = [logprobs for end, logprobs in self._logprobs if end <= self._delivered]
        if due:
            del self._logprobs[: len(due)]
            entry["logprobs"] = _joined(due)
        return [entry]

    def _with_role(self, delta: dict[str, Any]) -> dict[str, Any]:
        # The role comes once, with the first thing that leaves: nothing may leave before it is checked.
        if self._begun:
            return delta
        self._begun = True
        return {"role": "assistant", **({"content": ""} if not delta else {}), **delta}


class Answer:
    """One target's answer under way."""

    def __init__(
        self,
        envelope: dict[str, Any],
        gate: Callable[[], Gate],
        *,
        strip: bool = False,
        restorer: Callable[[], Stage] | None = None,
    ) -> None:
        """`envelope` holds `id`, `object`, `created`, `model`; `strip` drops white space before the first word.

        `restorer` makes what puts hidden values back into the arguments of tools.
        """
        self._restorer = restorer
        self._envelope = envelope
        self._gate = gate
        self._strip = strip
        self._choices: dict[int, Choice] = {}
        self.usage: dict[str, Any] | None = None
        self.deltas = 0
        self.was_cut = False

    @property
    def said(self) -> str:
        """What was delivered of an answer of one choice."""
        return "".join(text for choice in self._choices.values() for text in choice.said)

    @property
    def tokens(self) -> int:
        """How many tokens of the try under way were delivered, of an answer of one choice."""
        return sum(choice.tokens for choice in self._choices.values())

    def resume(self, opening: str) -> list[Chunk]:
        """Go on with another try, which counts anew; raises Violation."""
        self.usage, self.deltas = None, 0
        return [self.wrap(choice, entry) for choice in self._choices.values() for entry in choice.resume(opening)]

    @property
    def gates(self) -> list[Gate]:
        """The gates of all choices."""
        return [gate for choice in self._choices.values() for gate in choice.gates]

    def take(self, chunk: Chunk) -> Iterator[Chunk]:
        """What may leave now that `chunk` has come, piece by piece: what stands before a violation still leaves.

        Raises:
            Violation: a guard stopped the answer.
            Failure: the chunk is no chat completion chunk.
        """
        if isinstance(chunk.get("usage"), dict):
            self.usage = chunk["usage"]
        for part in _parts(chunk):
            choice = self._choice(part.get("index") or 0)
            if choice.finish is not None:
                continue
            delta = part.get("delta") or {}
            self.deltas += bool(delta.get("content") or delta.get("tool_calls") or delta.get("refusal"))
            for entry in self._entries(choice, delta, part):
                yield self.wrap(choice, entry)

    def _entries(self, choice: Choice, delta: dict[str, Any], part: dict[str, Any]) -> Iterator[dict[str, Any]]:
        try:
            yield from choice.take(delta, part.get("logprobs"), self._generated())
            if part.get("finish_reason"):
                yield from choice.end(str(part["finish_reason"]))
        except Loop:
            self.was_cut = True
            yield from choice.cut()

    def complete(self) -> bool:
        """Whether every choice that began has ended: an answer without a finish was cut."""
        return bool(self._choices) and all(choice.finish is not None for choice in self._choices.values())

    def block(self, closing: str) -> list[Chunk]:
        """Ends every choice still open with `content_filter`."""
        open_choices = [choice for choice in self._choices.values() if choice.finish is None]
        return [self.wrap(choice, entry) for choice in open_choices for entry in choice.block(closing)]

    def refuse(self, text: str, choices: int, finish: str = "content_filter") -> list[Chunk]:
        """A whole answer of ours in place of the model's, the same for every choice asked for."""
        return [
            self.wrap(choice, entry)
            for choice in map(self._choice, range(choices))
            for entry in choice.block(text, finish)
        ]

    def wrap(self, choice: Choice, entry: dict[str, Any]) -> Chunk:
        """An entry of a choice as a chunk."""
        part = {
            "index": choice.index,
            "delta": entry["delta"],
            "logprobs": entry.get("logprobs"),
            "finish_reason": entry.get("finish_reason"),
        }
        return {**self._envelope, "choices": [part]}

    def wrap_none(self) -> Chunk:
        """A chunk without choices."""
        return {**self._envelope, "choices": []}

    def usage_chunk(self, usage: dict[str, Any]) -> Chunk:
        """The last chunk of a stream whose caller asked for usage: no choices, only the count."""
        return {**self.wrap_none(), "usage": usage}

    def _generated(self) -> int:
        count = self.usage.get("completion_tokens") if self.usage else None
        return count if isinstance(count, int) else self.deltas

    def _choice(self, index: int) -> Choice:
        if index not in self._choices:
            self._choices[index] = Choice(index, self._gate, strip=self._strip, restorer=self._restorer)
        return self._choices[index]


def _pieces(text: str) -> Iterator[str]:
    """A text in pieces, so that a server that sends much at once does not have all of it judged at once."""
    return (
        (text[start : start + _PIECE] for start in range(0, len(text), _PIECE)) if len(text) > _PIECE else iter((text,))
    )


def _parts(chunk: Chunk) -> list[dict[str, Any]]:
    # Checked by hand: this runs for every token, and the shape of the rest is nobody's concern here.
    parts = chunk.get("choices") or []
    if isinstance(parts, list) and all(isinstance(part, dict) and _well_formed(part) for part in parts):
        return parts
    raise Failure("malformed chunk", UpstreamFailed("The model server gave no usable answer."))


def _well_formed(part: dict[str, Any]) -> bool:
    delta = part.get("delta")
    return isinstance(part.get("index"), int | None) and (
        delta is None or (isinstance(delta, dict) and all(isinstance(delta.get(field), str | None) for field in _GATED))
    )


def _joined(parts: list[dict[str, Any]]) -> dict[str, Any]:
    keys = {key for part in parts for key, value in part.items() if isinstance(value, list)}
    return {key: [item for part in parts for item in part.get(key) or ()] for key in sorted(keys)}
