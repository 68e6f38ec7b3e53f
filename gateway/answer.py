"""One target's chunks -> the chunks that may leave: gated text, our own envelope, nothing lost that OpenAI's format carries.

Chunks follow the OpenAI API reference, "The chat completion chunk object".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from gateway.choice import GATED, Choice
from gateway.errors import UpstreamFailed
from gateway.events import Chunk, Part, Run
from gateway.failure import Failure
from gateway.guardrails.gate import Gate, Stage
from gateway.guardrails.loops import Loop


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

    def take(self, part: Part) -> Iterable[Chunk]:
        """What may leave now that `part` has come, piece by piece: what stands before a violation still leaves.

        Raises:
            Violation: a guard stopped the answer.
            Failure: a chunk is no chat completion chunk.
        """
        return self._said(part) if isinstance(part, Run) else self._taken(part)

    def _said(self, run: Run) -> Iterable[Chunk]:
        choice = self._choice(run.index)
        if choice.finish is not None:
            return ()
        counts, deltas = list[int](), self.deltas
        for text, count in zip(run.texts, run.counts, strict=True):
            deltas += bool(text)
            counts.append(deltas if count is None else count)
        said = "".join(run.texts)
        if not said or not choice.free:  # a text that never comes has no gate, and no guard has judged it
            return self._gated(choice, run, counts)
        self.deltas = deltas
        if run.usage is not None:
            self.usage = run.usage.by(counts[-1])
        return (self.wrap(choice, choice.pass_on(said, counts[-1])),)

    def _gated(self, choice: Choice, run: Run, counts: list[int]) -> Iterator[Chunk]:
        try:
            yield from self._wrapped(choice, choice.say(run.texts, counts))
        finally:  # a violation ends the count where it stands
            self.deltas += sum(map(bool, run.texts[: choice.heard]))
            if run.usage is not None and choice.heard:
                self.usage = run.usage.by(counts[choice.heard - 1])

    def _taken(self, chunk: Chunk) -> Iterator[Chunk]:
        if isinstance(chunk.get("usage"), dict):
            self.usage = chunk["usage"]
        for part in _parts(chunk):
            choice = self._choice(part.get("index") or 0)
            if choice.finish is not None:
                continue
            delta = part.get("delta") or {}
            self.deltas += bool(delta.get("content") or delta.get("tool_calls") or delta.get("refusal"))
            yield from self._wrapped(choice, self._entries(choice, delta, part))

    def _entries(self, choice: Choice, delta: dict[str, Any], part: dict[str, Any]) -> Iterator[dict[str, Any]]:
        yield from choice.take(delta, part.get("logprobs"), self._generated())
        if part.get("finish_reason"):
            yield from choice.end(str(part["finish_reason"]))

    def _wrapped(self, choice: Choice, entries: Iterator[dict[str, Any]]) -> Iterator[Chunk]:
        try:
            for entry in entries:
                yield self.wrap(choice, entry)
        except Loop:
            self.was_cut = True
            for entry in choice.cut():
                yield self.wrap(choice, entry)

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


def _parts(chunk: Chunk) -> list[dict[str, Any]]:
    # Checked by hand: this runs for every token, and the shape of the rest is nobody's concern here.
    parts = chunk.get("choices") or []
    if isinstance(parts, list) and all(isinstance(part, dict) and _well_formed(part) for part in parts):
        return parts
    raise Failure("malformed chunk", UpstreamFailed("The model server gave no usable answer."))


def _well_formed(part: dict[str, Any]) -> bool:
    delta = part.get("delta")
    return isinstance(part.get("index"), int | None) and (
        delta is None or (isinstance(delta, dict) and all(isinstance(delta.get(field), str | None) for field in GATED))
    )
