"""One target's chunks -> the chunks that may leave: gated text, our own envelope, nothing lost that OpenAI's format carries.

Chunks follow the OpenAI API reference, "The chat completion chunk object".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from gateway.errors import UpstreamFailed
from gateway.failure import Failure
from gateway.guardrails.gate import Gate
from gateway.upstream import Chunk

# Text of a delta that is prose and passes a gate. Reasoning is not delivered: it is the model's own talk, in any language.
_GATED: Final = ("content", "refusal")
_WITHHELD: Final = frozenset({"role", "reasoning", "reasoning_content", *_GATED})


class Choice:
    """One of the `n` answers: its gates, and what is held back with the text."""

    def __init__(self, index: int, gate: Callable[[], Gate], *, strip: bool) -> None:
        self.index = index
        self.finish: str | None = None
        self._new_gate = gate
        self._gates: dict[str, Gate] = {}
        self._strip = strip
        self._begun = False
        self._received = 0
        self._delivered = 0
        self._logprobs: list[tuple[int, dict[str, Any]]] = []

    @property
    def gates(self) -> list[Gate]:
        """The gates text has passed through."""
        return list(self._gates.values())

    def take(self, delta: dict[str, Any], logprobs: dict[str, Any] | None) -> list[dict[str, Any]]:
        """The deltas that may leave now, each with its log probabilities under `logprobs`; raises Violation."""
        out = []
        self._received += sum(len(delta.get(field) or "") for field in _GATED)
        if logprobs:  # also of a token without text, such as half a character
            self._logprobs.append((self._received, logprobs))
        for field in _GATED:
            text = delta.get(field)
            if not text:
                continue
            out.extend(self._text(field, self._gate(field).feed(text)))
        rest = {key: value for key, value in delta.items() if key not in _WITHHELD and value is not None}
        if rest:
            out.extend(self._flush())
            out.append({"delta": self._with_role(rest)})
        return out

    def end(self, finish: str) -> list[dict[str, Any]]:
        """The rest of the text and the finish; raises Violation."""
        out = self._flush()
        self.finish = finish  # not before: a choice whose rest is stopped by a guard is still open, and ends by `block`
        last = {"delta": self._with_role({}), "finish_reason": finish}
        if self._logprobs:
            last["logprobs"] = _joined([logprobs for _, logprobs in self._logprobs])
        return [*out, last]

    def block(self, closing: str) -> list[dict[str, Any]]:
        """What is held is dropped; a closing sentence of ours and the finish `content_filter` end the choice."""
        self.finish = "content_filter"
        last = [{"delta": self._with_role({"content": closing})}] if closing else []
        return [*last, {"delta": self._with_role({}), "finish_reason": "content_filter"}]

    def _gate(self, field: str) -> Gate:
        if field not in self._gates:
            self._gates[field] = self._new_gate()
        return self._gates[field]

    def _flush(self) -> list[dict[str, Any]]:
        return [entry for field, gate in self._gates.items() for entry in self._text(field, gate.finish())]

    def _text(self, field: str, released: str) -> list[dict[str, Any]]:
        self._delivered += len(released)
        if self._strip:
            released = released.lstrip()
            self._strip = not released
        if not released:
            return []
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

    def __init__(self, envelope: dict[str, Any], gate: Callable[[], Gate], *, strip: bool = False) -> None:
        """`envelope` holds `id`, `object`, `created`, `model`; `strip` drops white space before the first word."""
        self._envelope = envelope
        self._gate = gate
        self._strip = strip
        self._choices: dict[int, Choice] = {}
        self.usage: dict[str, Any] | None = None
        self.deltas = 0

    @property
    def gates(self) -> list[Gate]:
        """The gates of all choices."""
        return [gate for choice in self._choices.values() for gate in choice.gates]

    def take(self, chunk: Chunk) -> list[Chunk]:
        """What may leave now that `chunk` has come.

        Raises:
            Violation: a guard stopped the answer.
            Failure: the chunk is no chat completion chunk.
        """
        if isinstance(chunk.get("usage"), dict):
            self.usage = chunk["usage"]
        out: list[Chunk] = []
        for part in _parts(chunk):
            choice = self._choice(part.get("index") or 0)
            if choice.finish is not None:
                continue
            delta = part.get("delta") or {}
            self.deltas += bool(delta.get("content") or delta.get("tool_calls") or delta.get("refusal"))
            entries = choice.take(delta, part.get("logprobs"))
            if part.get("finish_reason"):
                entries += choice.end(str(part["finish_reason"]))
            out.extend(self.wrap(choice, entry) for entry in entries)
        return out

    def complete(self) -> bool:
        """Whether every choice that began has ended: an answer without a finish was cut."""
        return bool(self._choices) and all(choice.finish is not None for choice in self._choices.values())

    def block(self, closing: str) -> list[Chunk]:
        """Ends every choice still open with `content_filter`."""
        open_choices = [choice for choice in self._choices.values() if choice.finish is None]
        return [self.wrap(choice, entry) for choice in open_choices for entry in choice.block(closing)]

    def refuse(self, text: str, choices: int) -> list[Chunk]:
        """A whole answer of ours in place of the model's, the same for every choice asked for."""
        return [
            self.wrap(choice, entry) for choice in map(self._choice, range(choices)) for entry in choice.block(text)
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

    def usage_chunk(self, usage: dict[str, Any]) -> Chunk:
        """The last chunk of a stream whose caller asked for usage: no choices, only the count."""
        return {**self._envelope, "choices": [], "usage": usage}

    def _choice(self, index: int) -> Choice:
        if index not in self._choices:
            self._choices[index] = Choice(index, self._gate, strip=self._strip)
        return self._choices[index]


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
