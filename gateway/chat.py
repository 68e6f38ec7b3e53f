"""One chat completion, top to bottom: `Chat.answer` names every stage and contains none of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import orjson
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from auth import Principal
from auth.errors import AuthError
from auth.principal import CHAT
from gateway import ask as asking
from gateway import collect, errors, payload, protocol, sse
from gateway.answer import Answer
from gateway.disconnect import ClientClosed, unless_disconnected
from gateway.errors import GatewayError, ServerStopping
from gateway.exchange import Attempt, Exchange, Outcome, State
from gateway.failure import Failure
from gateway.guardrails.gate import Drift, Violation
from gateway.guardrails.guards import Guards
from gateway.ledger import Ledger
from gateway.limits import Limiter, Standing
from gateway.protocol import ChatRequest
from gateway.routing import Ask, Catalogue, Ladder
from gateway.settings import Settings
from gateway.upstream import Chunk, Upstream

REFUSAL = (
    "Je suis désolé : je n'ai pas réussi à formuler une réponse en français à cette demande. "
    "Vous pouvez la reformuler ou réessayer dans un instant."
)
CLOSING = "\n\nJe m'arrête ici : la suite de ma réponse n'était pas en français."

_EVENT_STREAM = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
    "x-accel-buffering": "no",  # nginx would gather 16 KB otherwise
}


@dataclass(frozen=True)
class Chat:
    """The parts of the pipeline, built once; `clock` is a monotonic clock in seconds."""

    settings: Settings
    catalogue: Catalogue
    upstream: Upstream
    guards: Guards
    limiter: Limiter
    ledger: Ledger
    observe: Callable[[Exchange], None]
    clock: Callable[[], float] = time.monotonic

    async def answer(self, http: Request, principal: Principal, exchange: Exchange, send: Send) -> None:
        """Answer one request; every way out settles the exchange exactly once."""
        run = Run(self, principal, exchange, send)
        try:
            principal.require(CHAT)
            await run.limit()
            raw = await payload.read(http, self.settings.server.body_limit_bytes)
            request = protocol.parse(raw, max_choices=self.settings.limits.max_choices)
            run.admit(request)
            await unless_disconnected(http.receive, run.deliver(request))
        except (ClientClosed, ClientDisconnect):
            run.ended(State.CLIENT_CLOSED, status=exchange.status or 499)
        except (GatewayError, AuthError) as error:
            await run.fail(error)
        except asyncio.CancelledError:  # nobody but the server cancels, when the time for open requests is over
            if exchange.ended is not None:
                raise
            await run.fail(ServerStopping("The gateway is being restarted: try again.", headers={"retry-after": "5"}))
        finally:
            run.ended(State.FAILED, status=exchange.status or 500, error="internal_error")


class Run:
    """One request on its way through the parts."""

    def __init__(self, parts: Chat, principal: Principal, exchange: Exchange, send: Send) -> None:
        self._parts = parts
        self._principal = principal
        self._exchange = exchange
        self._send = send
        self._standing: Standing | None = None
        self._answer: Answer | None = None

    def headers(self) -> dict[str, str]:
        """The headers of the answer, known so far."""
        limits = self._standing.headers() if self._standing else {}
        return {**limits, **self._exchange.headers()}

    async def limit(self) -> None:
        """Take one request from the caller's bucket; raises RateLimited."""
        own = self._principal.requests_per_minute
        limit = self._parts.settings.limits.requests_per_minute if own is None else own
        if limit:
            caller = f"{self._principal.tenant}/{self._principal.subject}"
            self._standing = await self._parts.limiter.take(caller, limit)
            self._standing.require()

    def admit(self, request: ChatRequest) -> None:
        """Check what came in; raises ContentPolicy."""
        self._exchange.model = request.model[:256]
        self._exchange.stream = request.stream
        self._parts.guards.admit(request.texts())

    async def deliver(self, request: ChatRequest) -> None:
        """Get an answer and send it, streamed or plain."""
        targets = self._parts.catalogue.targets(request.model, may_leave=self._principal.may_leave)
        async with aclosing(self._released(request, Ladder(targets, request.texts()))) as chunks:
            if request.stream:
                await self._stream(request, chunks)
            else:
                await self._plain([chunk async for chunk in chunks])

    async def fail(self, error: GatewayError | AuthError) -> None:
        """End by an error: raised to be rendered, or, once a stream has begun, in it. No [DONE], no invented finish_reason."""
        if self._exchange.status == 200:
            self.ended(State.TRUNCATED, status=200, error=error.code)
            await self._write(errors.event(error), more=False)
            return
        self.ended(State.FAILED if self._exchange.attempts else State.REFUSED, status=error.status, error=error.code)
        error.headers = {**self.headers(), **error.headers}
        raise error

    async def _stream(self, request: ChatRequest, chunks: AsyncGenerator[Chunk]) -> None:
        first = await anext(chunks)
        await self._start(_EVENT_STREAM)
        await self._write(sse.event(orjson.dumps(first)))
        try:
            async for chunk in chunks:
                await self._write(sse.event(orjson.dumps(chunk)))
        except Failure as failure:
            await self.fail(failure.error)
            return
        last = b""
        if request.include_usage and self._answer is not None:
            last = sse.event(orjson.dumps(self._answer.usage_chunk(self._usage())))
        self.ended(State.BLOCKED if self._exchange.blocked_by else State.COMPLETED, status=200)
        await self._write(last + sse.DONE, more=False)

    async def _plain(self, chunks: list[Chunk]) -> None:
        body = collect.completion(chunks, self._usage())
        self.ended(State.BLOCKED if self._exchange.blocked_by else State.COMPLETED, status=200)
        await self._start({"content-type": "application/json"})
        await self._write(orjson.dumps(body), more=False)

    async def _released(self, request: ChatRequest, ladder: Ladder) -> AsyncGenerator[Chunk]:
        """The chunks that may leave, from the first target that gives a French answer."""
        failure: Failure | None = None
        while (ask := ladder.current()) is not None:
            # Nothing of a plain answer leaves before its end, so every repair stays possible until then.
            asked = self._asked(request, ask) if request.stream else _held(self._asked(request, ask))
            try:
                with ask.call:
                    async with aclosing(asked) as chunks:
                        async for chunk in chunks:
                            self._commit()
                            yield chunk
            except Drift:
                ladder.drifted()
            except Failure as error:
                if self._exchange.state is State.COMMITTED:
                    raise
                failure = error
                ladder.failed()
            else:
                return
        if failure is not None and not self._exchange.repairs:
            raise failure.error
        for chunk in self._refusal(request.fields.n or 1):
            self._commit()
            yield chunk

    async def _asked(self, request: ChatRequest, ask: Ask) -> AsyncGenerator[Chunk]:
        """One target's answer, gated. Raises Drift or Failure; after the commit a violation ends it with a block instead."""
        attempt = Attempt(ask.pool.name, ask.firm, replica=ask.call.replica.index)
        self._exchange.attempts.append(attempt)
        answer = self._answer = self._new_answer(strip=ask.pool.target.trim_start or asking.has_opening(request, ask))
        try:
            async for chunk in self._received(request, ask):
                for released in answer.take(chunk):
                    attempt.outcome = Outcome.SERVED
                    yield released
            if not answer.complete():
                raise Failure("cut before its end", errors.UpstreamFailed("The model server's answer was cut."))
        except Violation as violation:
            if isinstance(violation, Drift) and self._exchange.state is State.QUEUED:
                attempt.outcome, attempt.reason = Outcome.DRIFTED, "language"
                raise
            attempt.outcome, self._exchange.blocked_by = Outcome.SERVED, violation.guard
            for last in answer.block(CLOSING if isinstance(violation, Drift) else ""):
                yield last
        except Failure as failure:
            attempt.reason = failure.reason
            if self._exchange.state is State.QUEUED:
                attempt.outcome = Outcome.FAILED
            raise
        except GatewayError as refusal:  # the request itself is at fault
            attempt.outcome, attempt.reason = Outcome.FAILED, refusal.code or "refused"
            raise
        finally:
            attempt.count(answer.usage, prompt_estimate=_estimate(request), deltas=answer.deltas)

    async def _received(self, request: ChatRequest, ask: Ask) -> AsyncGenerator[Chunk]:
        url, key, body = ask.call.replica.url, ask.pool.target.key(), asking.body(request, ask)
        async with self._parts.upstream.chat(url, key, body, self._exchange.request_id) as chunks:
            async for chunk in chunks:
                ask.call.begun()
                yield chunk

    def _refusal(self, choices: int) -> list[Chunk]:
        self._exchange.blocked_by = "language"
        self._answer = self._new_answer()
        return self._answer.refuse(REFUSAL, choices)

    def _new_answer(self, *, strip: bool = False) -> Answer:
        envelope = {
            "id": f"chatcmpl-{self._exchange.id}",
            "object": "chat.completion.chunk",
            "created": int(time.time()),
            "model": self._exchange.model,
        }
        return Answer(envelope, self._parts.guards.gate, strip=strip)

    def _commit(self) -> None:
        if self._exchange.state is State.QUEUED:
            self._exchange.move(State.COMMITTED)
            self._exchange.first_text = self._parts.clock()
            self._audit()

    def _audit(self) -> None:
        gates = self._answer.gates if self._answer else []
        exchange = self._exchange
        exchange.guards = self._parts.guards.audit(gates, blocked_by=exchange.blocked_by, repairs=exchange.repairs)

    def _usage(self) -> dict[str, Any]:
        if self._answer is not None and self._answer.usage is not None:
            return self._answer.usage
        served = self._exchange.attempts[-1]
        prompt, completion = (
            (0, 0) if served.outcome is Outcome.DRIFTED else (served.prompt_tokens, served.completion_tokens)
        )
        return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}

    async def _start(self, headers: dict[str, str]) -> None:
        self._exchange.status = 200
        pairs = [(name.encode(), value.encode()) for name, value in {**headers, **self.headers()}.items()]
        await self._send({"type": "http.response.start", "status": 200, "headers": pairs})

    async def _write(self, body: bytes, *, more: bool = True) -> None:
        await self._send({"type": "http.response.body", "body": body, "more_body": more})

    def ended(self, state: State, *, status: int, error: str | None = None) -> None:
        """Settle the exchange; only the first call counts."""
        exchange = self._exchange
        if exchange.terminal:
            return
        if state is State.FAILED and exchange.state is State.COMMITTED:
            state = State.TRUNCATED
        exchange.move(state)
        exchange.status, exchange.error, exchange.ended = status, error, self._parts.clock()
        if exchange.attempts:
            self._audit()
        self._parts.ledger.settle(exchange)
        self._parts.observe(exchange)


class ChatResponse(Response):
    """An ASGI answer that is made while it is sent."""

    def __init__(self, parts: Chat, http: Request, principal: Principal, exchange: Exchange) -> None:
        super().__init__()
        self._parts, self._http, self._principal, self._exchange = parts, http, principal, exchange

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the pipeline against the connection."""
        await self._parts.answer(self._http, self._principal, self._exchange, send)


async def _held(chunks: AsyncGenerator[Chunk]) -> AsyncGenerator[Chunk]:
    async with aclosing(chunks):
        whole = [chunk async for chunk in chunks]
    for chunk in whole:
        yield chunk


def _estimate(request: ChatRequest) -> int:
    # Where the model server does not count: a token is at least a byte and about four in French prose; never zero.
    return 1 + sum(len(text.encode()) for text in request.texts()) // 4
