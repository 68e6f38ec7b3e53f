"""The tries at one answer: target after target is asked, until one gives a French answer or none is left."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial
from typing import Any

from gateway import errors
from gateway.answer import Answer
from gateway.errors import ContextLengthExceeded, GatewayError
from gateway.exchange import Exchange, Outcome, State
from gateway.failure import Failure
from gateway.guardrails.gate import Drift, GuardFailed, Violation
from gateway.protocol import Request
from gateway.routing import Ask, Ladder
from gateway.stages import Stages
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
CLOSING = "\n\nJe m'arrête ici : la suite de ma réponse n'était pas en français."


class Tries:
    """The side of a request towards the targets; what happens is written into its exchange."""

    def __init__(self, stages: Stages, surface: Surface, request: Request, exchange: Exchange) -> None:
        self._stages, self._surface, self._request, self._exchange = stages, surface, request, exchange
        self._answer: Answer | None = None

    async def released(self, ladder: Ladder) -> AsyncGenerator[Chunk]:
        """The chunks that may leave, all of one answer. Raises Failure or GatewayError, after the first chunk only Failure."""
        failure: Failure | None = None
        with ladder:
            while (ask := await ladder.current()) is not None:
                # Nothing of a plain answer leaves before its end, so every repair stays possible until then.
                asked = self._asked(ask) if self._request.stream else _held(self._asked(ask))
                try:
                    with ask.call:
                        async with aclosing(asked) as chunks:
                            async for chunk in chunks:
                                self._commit()
                                yield chunk
                except (Drift, ContextLengthExceeded, Failure) as cause:
                    failure = self._moved_on(cause, ladder) or failure
                else:
                    return
        if failure is not None and not self._exchange.repairs:
            raise failure.error
        for chunk in self._refusal():
            self._commit()
            yield chunk

    def audit(self) -> None:
        """Write down what each guard has decided so far."""
        gates = self._answer.gates if self._answer else []
        exchange = self._exchange
        exchange.guards = self._stages.guards.audit(gates, blocked_by=exchange.blocked_by, repairs=exchange.repairs)

    def usage(self) -> dict[str, Any]:
        """The tokens of the answer: the model server's count, or ours."""
        if self._answer is not None and self._answer.usage is not None:
            return self._answer.usage
        served = self._exchange.attempts[-1]
        prompt, completion = (
            (0, 0) if served.outcome is Outcome.DRIFTED else (served.prompt_tokens, served.completion_tokens)
        )
        return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}

    def usage_chunk(self) -> Chunk | None:
        """The last chunk of a stream whose caller asked for usage, None for one who did not."""
        if not self._request.include_usage or self._answer is None:
            return None
        return self._answer.usage_chunk(self.usage())

    def _moved_on(self, cause: Drift | ContextLengthExceeded | Failure, ladder: Ladder) -> Failure | None:
        """Go on after an ask that gave nothing, and give its failure; raises `cause` when there is no going on."""
        if isinstance(cause, Drift):
            ladder.drifted()
        elif isinstance(cause, Failure):
            if self._exchange.state is State.COMMITTED:
                raise cause
            ladder.failed()
            return cause
        elif not ladder.too_long() and not self._exchange.repairs:  # a repair's longer prompt is not the caller's fault
            raise cause
        return None

    async def _asked(self, ask: Ask) -> AsyncGenerator[Chunk]:
        """One target's answer, gated. Raises Drift or Failure; after the commit a violation ends it with a block instead."""
        attempt = self._exchange.attempt(ask.pool.name, firm=ask.firm, replica=ask.call.replica.index)
        ask.call.tell = attempt.took
        answer = self._answer = self._new_answer(strip=self._surface.begun(self._request, ask))
        try:
            async for chunk in self._received(ask):
                for released in answer.take(chunk):
                    attempt.outcome = Outcome.SERVED
                    yield released
            if not answer.complete():
                raise Failure("cut before its end", errors.UpstreamFailed("The model server's answer was cut."))
        except Violation as violation:
            if isinstance(violation, Drift) and self._exchange.state is State.QUEUED:
                attempt.outcome, attempt.reason = Outcome.DRIFTED, "language"
                raise
            closing = _closing(violation, begun=attempt.outcome is Outcome.SERVED)
            attempt.outcome, self._exchange.blocked_by = Outcome.SERVED, violation.guard
            for last in answer.block(closing):
                yield last
        except Failure as failure:
            attempt.reason = failure.reason
            if self._exchange.state is State.QUEUED:
                attempt.outcome = Outcome.FAILED
            raise
        except GatewayError as refusal:  # the request itself is at fault
            attempt.failed(refusal.code or "refused")
            raise
        finally:
            estimate = partial(self._stages.reckoner.estimate, ask.pool.target, self._request)
            attempt.count(answer.usage, prompt_estimate=estimate, deltas=answer.deltas)

    async def _received(self, ask: Ask) -> AsyncGenerator[Chunk]:
        url, key = f"{ask.call.replica.url}/{self._surface.path}", ask.pool.key
        body = self._surface.body(self._request, ask)
        async with self._stages.upstream.stream(url, key, body, self._exchange.request_id) as chunks:
            async for chunk in chunks:
                ask.call.begun()
                yield self._surface.read(chunk)

    def _refusal(self) -> list[Chunk]:
        self._exchange.blocked_by = "language"
        self._answer = self._new_answer()
        return self._answer.refuse(REFUSAL, self._request.choices)

    def _new_answer(self, *, strip: bool = False) -> Answer:
        envelope = {
            "id": self._surface.prefix + self._exchange.id,
            "object": self._surface.object,
            "created": int(time.time()),
            "model": self._exchange.model,
        }
        return Answer(envelope, self._stages.guards.gate, strip=strip)

    def _commit(self) -> None:
        if self._exchange.state is State.QUEUED:
            self._exchange.move(State.COMMITTED)
            self._exchange.first_text = self._stages.clock()
            self.audit()


def _closing(violation: Violation, *, begun: bool) -> str:
    """What is said in place of what may not be delivered; `begun`: something was."""
    if isinstance(violation, GuardFailed):
        return UNCHECKED_CLOSING if begun else UNCHECKED
    return CLOSING if isinstance(violation, Drift) else ""


async def _held(chunks: AsyncGenerator[Chunk]) -> AsyncGenerator[Chunk]:
    async with aclosing(chunks):
        whole = [chunk async for chunk in chunks]
    for chunk in whole:
        yield chunk
