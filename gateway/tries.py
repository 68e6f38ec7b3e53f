"""The tries at one answer: target after target is asked, until one gives a French answer or none is left."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Any

import orjson

from gateway import errors
from gateway.answer import Answer
from gateway.ask import Wanted
from gateway.errors import ContextLengthExceeded, GatewayError
from gateway.events import Chunk, Part, Run
from gateway.exchange import Attempt, Exchange, Outcome, State
from gateway.failure import Failure
from gateway.guardrails.gate import Drift, Violation
from gateway.guardrails.inspection import Inspection
from gateway.guardrails.pseudonyms import Pseudonyms
from gateway.protocol import Request
from gateway.routing import Ask, Ladder
from gateway.stages import Stages
from gateway.steering import CONNECTIVES
from gateway.surface import Surface
from gateway.upstream import Stream
from gateway.wording import CLOSING, REFUSAL, before_a_sentence, closing

Release = Callable[[list[Chunk]], Awaitable[None]]  # takes chunks that leave now, all together


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

    async def answer(self, ladder: Ladder, release: Release) -> None:
        """Give `release` the chunks that may leave, all of one answer, those together that can leave together.

        Raises Failure or GatewayError, once something was released only Failure.
        """
        failure: Failure | None = None
        with ladder:
            ask = await ladder.current()
            while ask is not None:
                try:
                    with ask.call:
                        await self._asked(ask, release)
                except (Drift, GatewayError, Failure) as cause:
                    if self._exchange.state is State.QUEUED:
                        failure = self._moved_on(cause, ladder) or failure
                        ask = await ladder.current()
                    elif (ask := self._going_on(cause, ladder, ask)) is None:
                        await release(self._ended_early())
                        return
                else:
                    return
        if failure is not None and not self._exchange.repairs:
            raise failure.error
        last = self._refusal()
        self._commit()
        await release(last)

    async def _asked(self, ask: Ask, release: Release) -> None:
        """One target's answer."""
        if self.request.stream:

            async def leave(some: list[Chunk]) -> None:
                self._commit()
                await release(some)

            await self._tried(ask, leave)
            return
        # Nothing of a plain answer leaves before its end, so every repair stays possible until then.
        held: list[Chunk] = []

        async def hold(some: list[Chunk]) -> None:
            held.extend(some)

        await self._tried(ask, hold)
        if held:
            self._commit()
            await release(held)

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
        self._opening = f"{before_a_sentence(said)}{CONNECTIVES[repaired]}"
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

    async def _tried(self, ask: Ask, release: Release) -> None:
        """A try at one target, gated. Raises Drift or Failure; any other violation ends it with a block instead."""
        pool, replica = ask.pool, ask.call.replica.index
        attempt = self._exchange.attempt(
            pool.name, firm=ask.firm, replica=replica, model=pool.target.model, kind=pool.target.kind
        )
        ask.call.tell = attempt.took
        try:
            await self._gated(ask, attempt, release)
        except Drift:
            if self._exchange.state is State.QUEUED:
                attempt.outcome, attempt.reason = Outcome.DRIFTED, "language"
            raise
        except Violation as violation:
            last_words = closing(violation, begun=attempt.outcome is Outcome.SERVED)
            attempt.outcome, self._exchange.blocked_by = Outcome.SERVED, violation.guard
            if last := self._begun().block(last_words):
                await release(last)
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

    async def _gated(self, ask: Ask, attempt: Attempt, release: Release) -> None:
        """Releases what may leave of a target's answer; raises Violation or Failure."""
        request, pseudonyms = self._inspection.outgoing(outside=ask.pool.target.outside)
        lead = self._surface.lead(self.request, ask, self._wanted(ask))
        if pseudonyms is not None:
            lead = replace(lead, begun=pseudonyms.hide(lead.begun))
        if not ask.begun:
            self._answer = self._new_answer(strip=lead.strip, pseudonyms=pseudonyms)
        answer = self._begun()
        if ask.begun and (begun := answer.resume(self._opening)):
            await release(begun)
        async with self._stream(ask, attempt, self._surface.body(request, ask, lead)) as stream:
            while (parts := await stream.parts()) is not None:
                ask.call.begun()
                attempt.span.begun()
                if any(isinstance(part, Run) or part.get("choices") for part in parts):
                    attempt.heard(self._stages.clock())
                released, stopped = _taken(answer, self._surface.read(parts))
                if released:
                    attempt.so_far, attempt.outcome = answer.deltas, Outcome.SERVED
                    await release(released)
                if stopped is not None:
                    raise stopped
                if answer.was_cut and answer.complete():
                    return
        if not answer.complete():
            raise Failure("cut before its end", errors.UpstreamFailed("The model server's answer was cut."))

    def _stream(self, ask: Ask, attempt: Attempt, body: bytes) -> Stream:
        url, key = f"{ask.call.replica.url}/{self._surface.path}", ask.pool.key
        trace = attempt.span.headers(outside=ask.pool.target.outside)
        return self._stages.upstream.stream(url, key, body, self._exchange.request_id, trace)

    def _wanted(self, ask: Ask) -> Wanted:
        inspection = self._inspection
        if inspection.rules.mode("language") != "enforce":
            return Wanted(due=False, asked=inspection.allowed)
        bias = {} if inspection.allowed else self._stages.reckoner.english_bias(ask.pool.target)
        return Wanted(asked=inspection.allowed, bias=bias)

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

    async def help(self, release: Release) -> None:
        """The help line in place of a model's answer."""
        self._answer = self._new_answer()
        text = self._inspection.rules.tables.distress.text
        last = self._answer.refuse(text, self.request.choices, finish="stop")
        self._commit()
        await release(last)

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


def _taken(answer: Answer, parts: list[Part]) -> tuple[list[Chunk], Violation | Failure | None]:
    """What may leave of what came together, up to what stops the answer."""
    released: list[Chunk] = []
    try:
        for part in parts:
            for chunk in answer.take(part):
                released.append(chunk)  # noqa: PERF402  # what stands before a violation stays
    except (Violation, Failure) as problem:
        return released, problem
    return released, None


def _in_json(value: str) -> str:
    """A value as it stands in a JSON string."""
    return orjson.dumps(value).decode()[1:-1]
