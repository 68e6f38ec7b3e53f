"""The tries at one answer: target after target is asked, until one gives a French answer or none is left."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import Any, Final

import orjson

from gateway import errors
from gateway.answer import Answer
from gateway.ask import Wanted
from gateway.errors import ContextLengthExceeded, GatewayError
from gateway.exchange import Attempt, Exchange, Outcome, State
from gateway.failure import Failure
from gateway.guardrails.abuse import Abuse
from gateway.guardrails.gate import Drift, GuardFailed, Violation
from gateway.guardrails.inspection import Inspection
from gateway.guardrails.leaks import Leak
from gateway.guardrails.pseudonyms import Pseudonyms
from gateway.protocol import Request
from gateway.routing import Ask, Ladder
from gateway.stages import Stages
from gateway.steering import CONNECTIVES
from gateway.surface import Surface
from gateway.upstream import Chunk

REFUSAL = (
    "Je suis désolé : je n'ai pas réussi à formuler une réponse en français à cette demande. "
    "Vous pouvez la reformuler ou réessayer dans un instant."
)
UNCHECKED = (
    "Je suis désolé : ma réponse ne peut pas être vérifiée pour le moment. Vous pouvez réessayer dans un instant."
)
UNCHECKED_CLOSING = "\n\nJe m'arrête ici : la suite de ma réponse ne peut pas être vérifiée pour le moment."
STOPPED = "Je suis désolé : je ne peux pas donner cette réponse."
STOPPED_CLOSING = "\n\nJe m'arrête ici : je ne peux pas donner la suite de cette réponse."
CLOSING = "\n\nJe m'arrête ici : la suite de ma réponse n'était pas en français."


_ITEM: Final = re.compile(r"[ \t]*(?:[-*+•–]|\d{1,3}[.)])[ \t]")


class Tries:
    """The side of a request towards the targets; what happens is written into its exchange."""

    def __init__(
        self, stages: Stages, surface: Surface, request: Request, exchange: Exchange, inspection: Inspection
    ) -> None:
        """`inspection` is what the guards know of the request."""
        self._stages, self._surface, self.request, self._exchange = stages, surface, request, exchange
        self._inspection = inspection
        self._answer: Answer | None = None
        self._resumed: list[Attempt] = []  # tries of the one answer under way before the last
        self._opening = ""

    async def released(self, ladder: Ladder) -> AsyncGenerator[Chunk]:
        """The chunks that may leave, all of one answer. Raises Failure or GatewayError, after the first chunk only Failure."""
        failure: Failure | None = None
        with ladder:
            ask = await ladder.current()
            while ask is not None:
                # Nothing of a plain answer leaves before its end, so every repair stays possible until then.
                asked = self._asked(ask) if self.request.stream else _held(self._asked(ask))
                try:
                    with ask.call:
                        async with aclosing(asked) as chunks:
                            async for chunk in chunks:
                                self._commit()
                                yield chunk
                except (Drift, GatewayError, Failure) as cause:
                    if self._exchange.state is State.QUEUED:
                        failure = self._moved_on(cause, ladder) or failure
                        ask = await ladder.current()
                    elif (ask := self._going_on(cause, ladder, ask)) is None:
                        for chunk in self._ended_early():
                            yield chunk
                        return
                else:
                    return
        if failure is not None and not self._exchange.repairs:
            raise failure.error
        for chunk in self._refusal():
            self._commit()
            yield chunk

    def _going_on(self, cause: Drift | GatewayError | Failure, ladder: Ladder, asked: Ask) -> Ask | None:
        """What to ask after an answer has left French half-way: the same replica, which goes on from the last good sentence.

        None when the answer has to end here; raises `cause` where that is no drift and nothing was repaired.
        """
        if not isinstance(cause, Drift):
            if not self._resumed:
                raise cause
            return None
        last, answer = self._exchange.attempts[-1], self._begun()
        if self.request.choices > 1:
            return None
        last.delivered = answer.tokens
        repaired = len(self._resumed)
        if repaired >= self._inspection.rules.tables.language.repairs or not self._surface.goes_on(self.request, asked):
            return None
        last.outcome, last.reason = Outcome.DRIFTED, "language"
        self._resumed.append(last)
        said = answer.said.rstrip(" ")
        self._opening = f"{_before_a_sentence(said)}{CONNECTIVES[repaired]}"
        return ladder.again(said + self._opening, asked.delivered + answer.tokens)

    def audit(self) -> None:
        """Write down what each guard has decided so far."""
        gates = self._answer.gates if self._answer else []
        exchange = self._exchange
        exchange.guards = self._inspection.audit(gates, blocked_by=exchange.blocked_by, repairs=exchange.repairs)

    def usage(self) -> dict[str, Any]:
        """The tokens of the answer: the model server's count, or ours; of all its parts, where it was gone on with."""
        if self._answer is not None and self._answer.usage is not None and not self._resumed:
            return self._answer.usage
        parts = [*self._resumed, *self._exchange.attempts[-1:]]
        parts = parts if self._resumed else [part for part in parts if part.outcome is not Outcome.DRIFTED]
        prompt, completion = sum(part.prompt_tokens for part in parts), sum(part.completion_tokens for part in parts)
        return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}

    def usage_chunk(self) -> Chunk | None:
        """The last chunk of a stream whose caller asked for usage, None for one who did not."""
        if not self.request.include_usage or self._answer is None:
            return None
        return self._answer.usage_chunk(self.usage())

    def empty_chunk(self) -> Chunk:
        """A chunk without a choice, to carry what is said beside the answer."""
        return self._begun().wrap_none()

    def _moved_on(self, cause: Drift | GatewayError | Failure, ladder: Ladder) -> Failure | None:
        """Go on after an ask that gave nothing, and give its failure; raises `cause` when there is no going on."""
        if isinstance(cause, Drift):
            ladder.drifted()
        elif isinstance(cause, Failure):
            if self._exchange.state is State.COMMITTED:
                raise cause
            ladder.failed()
            return cause
        elif not isinstance(cause, ContextLengthExceeded) or not (ladder.too_long() or self._exchange.repairs):
            raise cause  # but for a repair's longer prompt, which is not the caller's fault
        return None

    async def _asked(self, ask: Ask) -> AsyncGenerator[Chunk]:
        """One target's answer, gated. Raises Drift or Failure; any other violation ends it with a block instead."""
        pool, replica = ask.pool, ask.call.replica.index
        attempt = self._exchange.attempt(
            pool.name, firm=ask.firm, replica=replica, model=pool.target.model, kind=pool.target.kind
        )
        ask.call.tell = attempt.took
        try:
            async for released in self._gated(ask, attempt):
                yield released
        except Drift:
            if self._exchange.state is State.QUEUED:
                attempt.outcome, attempt.reason = Outcome.DRIFTED, "language"
            raise
        except Violation as violation:
            closing = _closing(violation, begun=attempt.outcome is Outcome.SERVED)
            attempt.outcome, self._exchange.blocked_by = Outcome.SERVED, violation.guard
            for last in self._begun().block(closing):
                yield last
        except Failure as failure:
            attempt.reason = failure.reason
            if self._exchange.state is State.QUEUED or ask.begun:
                attempt.outcome = Outcome.FAILED
            raise
        except GatewayError as refusal:  # the request itself is at fault
            attempt.failed(refusal.code or "refused", refused=True)
            raise
        finally:
            if (answer := self._answer) is not None:
                estimate = partial(self._stages.reckoner.estimate, ask.pool.target, self.request)
                attempt.count(answer.usage, prompt_estimate=estimate, deltas=answer.deltas)

    async def _gated(self, ask: Ask, attempt: Attempt) -> AsyncGenerator[Chunk]:
        """What may leave of a target's answer; raises Violation or Failure."""
        request, pseudonyms = self._inspection.outgoing(outside=ask.pool.target.outside)
        lead = self._surface.lead(self.request, ask, self._wanted(ask))
        if pseudonyms is not None:
            lead = replace(lead, begun=pseudonyms.hide(lead.begun))
        if not ask.begun:
            self._answer = self._new_answer(strip=lead.strip, pseudonyms=pseudonyms)
        answer = self._begun()
        for released in answer.resume(self._opening) if ask.begun else ():
            yield released
        async with aclosing(self._received(ask, attempt, self._surface.body(request, ask, lead))) as chunks:
            async for chunk in chunks:
                if chunk.get("choices"):
                    attempt.heard(self._stages.clock())
                for released in answer.take(chunk):
                    attempt.so_far = answer.deltas
                    attempt.outcome = Outcome.SERVED
                    yield released
                if answer.was_cut and answer.complete():
                    return
        if not answer.complete():
            raise Failure("cut before its end", errors.UpstreamFailed("The model server's answer was cut."))

    def _wanted(self, ask: Ask) -> Wanted:
        inspection = self._inspection
        if inspection.rules.mode("language") != "enforce":
            return Wanted(due=False, asked=inspection.allowed)
        bias = {} if inspection.allowed else self._stages.reckoner.english_bias(ask.pool.target)
        return Wanted(asked=inspection.allowed, bias=bias)

    async def _received(self, ask: Ask, attempt: Attempt, body: bytes) -> AsyncGenerator[Chunk]:
        url, key = f"{ask.call.replica.url}/{self._surface.path}", ask.pool.key
        trace = attempt.span.headers(outside=ask.pool.target.outside)
        async with self._stages.upstream.stream(url, key, body, self._exchange.request_id, trace) as chunks:
            async for chunk in chunks:
                ask.call.begun()
                attempt.span.begun()
                yield self._surface.read(chunk)

    def _ended_early(self) -> list[Chunk]:
        """An honest end, in French, of an answer that cannot go on in French."""
        self._exchange.blocked_by = "language"
        last = self._exchange.attempts[-1]
        if last.outcome is not Outcome.FAILED:
            last.outcome = Outcome.SERVED
        return self._begun().block(CLOSING)

    def _begun(self) -> Answer:
        if self._answer is None:
            raise RuntimeError("no answer has begun")
        return self._answer

    def _refusal(self) -> list[Chunk]:
        self._exchange.blocked_by = "language"
        self._answer = self._new_answer()
        return self._answer.refuse(REFUSAL, self.request.choices)

    async def helped(self) -> AsyncGenerator[Chunk]:
        """The help line in place of a model's answer."""
        self._answer = self._new_answer()
        text = self._inspection.rules.tables.distress.text
        for chunk in self._answer.refuse(text, self.request.choices, finish="stop"):
            self._commit()
            yield chunk

    def _new_answer(self, *, strip: bool = False, pseudonyms: Pseudonyms | None = None) -> Answer:
        envelope = {
            "id": self._surface.prefix + self._exchange.id,
            "object": self._surface.object,
            "created": int(time.time()),
            "model": self._exchange.model,
        }
        restorer = partial(pseudonyms.restorer, _in_json) if pseudonyms else None
        return Answer(envelope, partial(self._inspection.gate, pseudonyms), strip=strip, restorer=restorer)

    def _commit(self) -> None:
        if self._exchange.state is State.QUEUED:
            self._exchange.move(State.COMMITTED)
            self._exchange.first_text = self._stages.clock()
            self._exchange.span.event("first_text")
            if self.request.stream:  # its headers leave now; those of a plain answer with all of it
                self.audit()


def _closing(violation: Violation, *, begun: bool) -> str:
    """What is said in place of what may not be delivered; `begun`: something was."""
    if isinstance(violation, GuardFailed):
        return UNCHECKED_CLOSING if begun else UNCHECKED
    if isinstance(violation, Leak | Abuse):
        return STOPPED_CLOSING if begun else STOPPED
    return ""


def _before_a_sentence(said: str) -> str:
    """What stands between a text and the sentence that goes on from it: no sentence goes on in the item of a list."""
    if said.endswith("\n"):
        return ""
    return "\n\n" if _ITEM.match(said.rpartition("\n")[2]) else " "


def _in_json(value: str) -> str:
    """A value as it stands in a JSON string."""
    return orjson.dumps(value).decode()[1:-1]


async def _held(chunks: AsyncGenerator[Chunk]) -> AsyncGenerator[Chunk]:
    async with aclosing(chunks):
        whole = [chunk async for chunk in chunks]
    for chunk in whole:
        yield chunk
