"""One of the answers that a model was asked for: its gates, and what is held back with its text.

Entries are the parts of the chunks that leave: a `delta`, perhaps with `logprobs` and `finish_reason` (OpenAI API reference,
"The chat completion chunk object").
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from gateway.guardrails.gate import Gate, Stage, Violation
from gateway.guardrails.sentences import settled

# Text of a delta that is prose and passes a gate. Reasoning is not delivered: it is the model's own talk, in any language.
GATED: Final = ("content", "refusal")
_PIECE: Final = 128  # characters
_WITHHELD: Final = frozenset({"role", "reasoning", "reasoning_content", *GATED})


class Choice:
    """One of the `n` answers: its gates, and what is held back with the text.

    `said` is what has been delivered, `tokens` how many tokens of the try under way that was; `heard` is how many of the tokens
    that came last have passed a gate, or failed to.
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
        self._ending = False  # a sentence may have ended, and what comes next tells
        self._spaced = True  # whether what comes may follow what is there already
        self._received = 0
        self._delivered = 0
        self._marks: deque[tuple[int, int]] = deque()  # characters received, and the tokens by then
        self.said: list[str] = []
        self.tokens = 0
        self.heard = 0
        self._logprobs: list[tuple[int, dict[str, Any]]] = []

    @property
    def gates(self) -> list[Gate]:
        """The gates text has passed through."""
        return list(self._gates.values())

    def take(self, delta: dict[str, Any], logprobs: dict[str, Any] | None, tokens: int = 0) -> Iterator[dict[str, Any]]:
        """The deltas that may leave now, each with its log probabilities under `logprobs`; raises Violation.

        `tokens` is how many the try has made by now.
        """
        self._received += sum(len(delta.get(field) or "") for field in GATED)
        self._marks.append((self._received, tokens))
        if logprobs:  # also of a token without text, such as half a character
            self._logprobs.append((self._received, logprobs))
        for field in GATED:
            for text in self._after_space(filter(None, (delta.get(field),))):
                for piece in _pieces(text):
                    yield from self._text(field, self._gate(field).feed(piece))
        rest = {key: value for key, value in delta.items() if key not in _WITHHELD and value is not None}
        if rest:
            yield from self._flush()
            if self._restorer is not None and "tool_calls" in rest:
                rest["tool_calls"] = [self._restored(call) for call in rest["tool_calls"]]
            yield {"delta": self._with_role(rest)}

    def say(self, texts: list[str], counts: list[int]) -> Iterator[dict[str, Any]]:
        """`take` for tokens that are text alone; `counts` are how many the try had made by each.

        Tokens behind a violation are not `heard`.
        """
        for text, count in zip(texts, counts, strict=True):
            self._received += len(text)
            self._marks.append((self._received, count))
        self.heard = len(texts)
        if not any(texts):
            return
        gate = self._gate("content")
        released, stopped = "", None
        self.heard = 0
        try:
            for words, tokens in self._together(texts) if gate.together else self._apart(texts):
                self.heard += tokens
                for piece in _pieces(words):
                    released += gate.feed(piece)
        except Violation as violation:
            stopped = violation
        yield from self._text("content", released)
        if stopped is not None:
            raise stopped

    @property
    def free(self) -> bool:
        """Whether what comes next leaves as it is: `pass_on` does then what `say` does."""
        return self._spaced and not (self._strip or self._marks or self._logprobs) and self._gate("content").free

    def pass_on(self, text: str, tokens: int) -> dict[str, Any]:
        """The delta of a text that comes while the choice is `free`; the try has made so many tokens by its end."""
        self._received += len(text)
        self._delivered += len(text)
        self.tokens = tokens
        self.said.append(text)
        gate = self._gate("content")
        for piece in _pieces(text):
            gate.feed(piece)
        return {"delta": self._with_role({"content": text})}

    def _together(self, texts: Iterable[str]) -> Iterator[tuple[str, int]]:
        """Tokens joined, and how many, so that they pass the gate at once where no sentence can end.

        From a mark until the next word they stay apart: a sentence that has ended leaves before anybody looks at the next one.
        """
        held: list[str] = []
        for text in texts if self._spaced else self._after_space(texts):
            held.append(text)
            if not settled(text):
                self._ending = True
            elif not self._ending:
                continue
            else:
                self._ending = not (text[:1].isspace() and any(map(str.isalnum, text)))
            yield "".join(held), len(held)
            held.clear()
        if held:
            yield "".join(held), len(held)

    def _apart(self, texts: Iterable[str]) -> Iterator[tuple[str, int]]:
        """The same of tokens that leave one by one."""
        return ((text, 1) for text in self._after_space(texts))

    def _after_space(self, texts: Iterable[str]) -> Iterator[str]:
        """The texts, the first with the space that a tokenizer may leave out before its first word."""
        for text in texts:
            if self._spaced or not text:
                yield text
            else:
                self._spaced = True
                yield f" {text}" if text[0].isalnum() else text

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


def _pieces(text: str) -> Iterator[str]:
    """A text in pieces, so that a server that sends much at once does not have all of it judged at once."""
    return (
        (text[start : start + _PIECE] for start in range(0, len(text), _PIECE)) if len(text) > _PIECE else iter((text,))
    )


def _joined(parts: list[dict[str, Any]]) -> dict[str, Any]:
    keys = {key for part in parts for key, value in part.items() if isinstance(value, list)}
    return {key: [item for part in parts for item in part.get(key) or ()] for key in sorted(keys)}
