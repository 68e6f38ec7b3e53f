"""One exchange: what happened to one request, written down while it happens.

The log line, the metrics, the response headers and the ledger all read this record, so they cannot disagree.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple

from gateway.spans import UNSEEN, Span

MOST_TOKENS: Final = 2**31 - 1  # what a column of the ledger holds


class State(enum.StrEnum):
    """The states of an exchange. All but the first two are terminal.

    `committed` is when the first released text leaves: before it every failure is an ordinary HTTP status and every fallback
    is possible; after it the model never changes silently. `refused` is a request no model was asked for, `failed` one that
    no model answered.
    """

    QUEUED = "queued"
    COMMITTED = "committed"
    COMPLETED = "completed"
    TRUNCATED = "truncated"
    BLOCKED = "blocked"
    CLIENT_CLOSED = "client_closed"
    REFUSED = "refused"
    FAILED = "failed"


_NEXT: dict[State, frozenset[State]] = {
    State.QUEUED: frozenset(
        {State.COMMITTED, State.BLOCKED, State.CLIENT_CLOSED, State.REFUSED, State.FAILED},
    ),
    State.COMMITTED: frozenset({State.COMPLETED, State.TRUNCATED, State.BLOCKED, State.CLIENT_CLOSED}),
}


class IllegalTransition(RuntimeError):
    """A bug: an exchange went from a terminal state to another, or skipped one."""


class Outcome(enum.StrEnum):
    """How one try at one target ended."""

    SERVED = "served"
    DRIFTED = "drifted"
    FAILED = "failed"
    ABANDONED = "abandoned"


class Finding(NamedTuple):
    """What a guard makes of a request and its answer, why if there is more to say, and the seconds it took."""

    verdict: str
    reason: str | None = None
    seconds: float = 0.0


@dataclass(slots=True)
class Attempt:
    """One try at one replica of a target. Tokens as far as they are known; `usage_source` says who counted.

    `busy_seconds` is its share of the time in which the replica did something; `first_token` and `last_token` are when it was
    heard of first and last, 0 for never. `delivered` are the tokens that reached the caller where those are not all or none: an
    answer that left French half-way. `so_far` counts deltas while nobody has counted tokens yet. `model` and `kind` are the
    target's; `refused` says that what failed was the request's own fault.
    """

    target: str
    firm: bool
    outcome: Outcome = Outcome.ABANDONED
    reason: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    usage_source: str = "none"
    replica: int = 0
    busy_seconds: float = 0.0
    delivered: int | None = None
    first_token: float = 0.0
    last_token: float = 0.0
    so_far: int = 0
    model: str = ""
    kind: str = ""
    refused: bool = False
    span: Span = field(default=UNSEEN, repr=False, compare=False)

    def failed(self, reason: str, *, refused: bool = False) -> None:
        """It gave nothing that was delivered, and why."""
        self.outcome, self.reason, self.refused = Outcome.FAILED, reason, refused

    def split(self, *, first: bool) -> tuple[Attempt, Attempt | None]:
        """What of it reached the caller, and what did not, if anything.

        The prompt is the caller's where this is the `first` part of an answer; a prompt that was sent again to go on is not.
        """
        got = self.completion_tokens if self.delivered is None else min(self.delivered, self.completion_tokens)
        if first and got == self.completion_tokens:
            return self, None
        share = got / self.completion_tokens if self.completion_tokens else 1.0
        busy, prompt = self.busy_seconds * share, self.prompt_tokens if first else 0
        kept = replace(self, prompt_tokens=prompt, completion_tokens=got, busy_seconds=busy)
        lost = replace(
            self,
            outcome=Outcome.DRIFTED,
            prompt_tokens=self.prompt_tokens - prompt,
            completion_tokens=self.completion_tokens - got,
            busy_seconds=self.busy_seconds - busy,
        )
        return kept, lost

    def and_then(self, part: Attempt) -> Attempt:
        """An answer of two parts, of which the second goes on from the first."""
        return replace(
            part,
            prompt_tokens=self.prompt_tokens + part.prompt_tokens,
            completion_tokens=self.completion_tokens + part.completion_tokens,
            busy_seconds=self.busy_seconds + part.busy_seconds,
        )

    def heard(self, now: float) -> None:
        """Something of the answer has come."""
        self.last_token = now
        if not self.first_token:
            self.first_token = now

    def took(self, seconds: float) -> None:
        """It has ended, and so many seconds of the replica's busy time were its own."""
        self.busy_seconds = seconds
        self.span.stop()

    def count(self, usage: dict[str, Any] | None, *, prompt_estimate: Callable[[], int], deltas: int) -> None:
        """Take the model server's usage, or count: one token a content delta, the prompt by its estimate, made only then.

        A target that failed before its first token has cost nobody anything.
        """
        if usage is not None:
            self.prompt_tokens = _whole(usage.get("prompt_tokens"))
            self.completion_tokens = _whole(usage.get("completion_tokens"))
            self.usage_source = "upstream"
        elif deltas or self.outcome is not Outcome.FAILED:
            self.prompt_tokens, self.completion_tokens, self.usage_source = prompt_estimate(), deltas, "local"


def _whole(count: Any) -> int:
    # What a model server says is not ours: nonsense is no count, and the ledger's columns hold 31 bits.
    return min(count, MOST_TOKENS) if isinstance(count, int) and count > 0 else 0


@dataclass(slots=True)
class Exchange:
    """The record. Times are seconds of a monotonic clock; `status` is the HTTP status that left.

    `asked_language`: the answer may be in another language than French, for that was asked for. `published`: there is such a
    model; until then its name is any text that a caller sent.
    """

    id: str
    request_id: str
    started: float
    tenant: str
    subject: str
    key: str | None = None
    model: str = ""
    stream: bool = False
    state: State = State.QUEUED
    status: int = 0
    error: str | None = None
    first_text: float | None = None
    ended: float | None = None
    attempts: list[Attempt] = field(default_factory=list)
    guards: dict[str, Finding] = field(default_factory=dict)
    blocked_by: str | None = None
    asked_language: bool = False
    published: bool = False
    span: Span = field(default=UNSEEN, repr=False, compare=False)

    def attempt(self, target: str, *, firm: bool, replica: int, model: str = "", kind: str = "") -> Attempt:
        """Write down that a replica of a target is asked."""
        span = self.span.call(model)
        self.attempts.append(Attempt(target, firm, replica=replica, model=model, kind=kind, span=span))
        return self.attempts[-1]

    def move(self, state: State) -> None:
        """Go to another state.

        Raises:
            IllegalTransition: the table of states does not allow it.
        """
        if state not in _NEXT.get(self.state, frozenset()):
            raise IllegalTransition(f"{self.state} -> {state}")
        self.state = state

    @property
    def terminal(self) -> bool:
        """Whether nothing more can happen."""
        return self.state not in _NEXT

    @property
    def repairs(self) -> int:
        """How many answers were thrown away because they drifted from French."""
        return sum([attempt.outcome is Outcome.DRIFTED for attempt in self.attempts])

    def parts(self) -> tuple[Attempt | None, list[Attempt]]:
        """What reached the caller, in one, if anything did; and what was lost: whole tries, or the rest of one."""
        kept: Attempt | None = None
        lost: list[Attempt] = []
        for attempt in self.attempts:
            if attempt.delivered is None and attempt.outcome in (Outcome.DRIFTED, Outcome.FAILED):
                lost.append(attempt)
                continue
            part, rest = attempt.split(first=kept is None)
            lost += [rest] if rest else []
            kept = part if kept is None else kept.and_then(part)
        return kept, lost

    @property
    def served_by(self) -> str:
        """The target whose answer was delivered; empty while there is none."""
        for attempt in reversed(self.attempts):
            if attempt.outcome is Outcome.SERVED or attempt.delivered:
                return attempt.target
        return ""

    def verdicts(self) -> dict[str, str]:
        """The verdict of each guard."""
        return {guard: finding.verdict for guard, finding in self.guards.items()}

    def verdict_line(self) -> str:
        """The verdicts in one line, as the header and the ledger have them."""
        return "; ".join([f"{guard}={finding.verdict}" for guard, finding in self.guards.items()])

    def audit(self) -> dict[str, Any]:
        """What a caller is told who asks for it: each guard's verdict, why, and its milliseconds."""
        guards: dict[str, Any] = {}
        for guard, finding in self.guards.items():
            guards[guard] = {"verdict": finding.verdict, "milliseconds": round(1000 * finding.seconds, 3)}
            if finding.reason is not None:
                guards[guard]["reason"] = finding.reason
        return {"guards": guards, "target": self.served_by or None, "repairs": self.repairs}

    def headers(self) -> dict[str, str]:
        """What the caller is told about the exchange, as far as it is known when the headers leave."""
        headers = {"x-passerelle-guards": self.verdict_line()}
        if self.served_by:
            headers["x-passerelle-target"] = self.served_by
        if self.repairs:
            headers["x-passerelle-repairs"] = str(self.repairs)
        if len(self.attempts) > 1:
            tries = (
                f"{attempt.target}{'+firm' if attempt.firm else ''}={attempt.outcome}" for attempt in self.attempts
            )
            headers["x-passerelle-attempts"] = ", ".join(tries)
        return headers
