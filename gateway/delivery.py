"""The side of a request towards its caller: limits and guards on the way in, the answer or the error on the way out.

Every way out settles the exchange.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any

import orjson
from starlette.types import Send

from auth import Principal
from auth.errors import AuthError
from auth.principal import LANGUAGES
from gateway import collect, errors, sse
from gateway.errors import ContextLengthExceeded, GatewayError, InvalidRequest, LimitsUnavailable, RateLimited
from gateway.estimates import Estimate
from gateway.events import Chunk
from gateway.exchange import Exchange, State
from gateway.failure import Failure
from gateway.fit import fitting
from gateway.guardrails.inspection import Inspection
from gateway.judge import NotJudged
from gateway.limits.checks import Reservation
from gateway.limits.policy import Use
from gateway.money import NANO
from gateway.pool import Pool
from gateway.protocol import TEXTS, Request
from gateway.routing import Ladder
from gateway.stages import Stages
from gateway.surface import Surface
from gateway.tries import Release, Tries

_EVENT_STREAM = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
    "x-accel-buffering": "no",  # nginx would gather 16 KB otherwise
}
_JSON = {"content-type": "application/json"}


Answering = Callable[[Release], Awaitable[None]]  # gives the chunks of an answer to what it is called with


class Delivery:
    """One request on its way through the stages."""

    def __init__(self, stages: Stages, principal: Principal, exchange: Exchange, send: Send, address: str = "") -> None:
        """`address` is where the caller is."""
        self.stages, self.exchange = stages, exchange
        self._principal, self._send, self._address = principal, send, address
        self._reservation: Reservation | None = None
        self._tries: Tries | None = None
        self._texts: str | None = None
        self._inspection: Inspection | None = None
        self._silent_since = 0.0
        self._silence: _Silence | None = None

    def headers(self) -> dict[str, str]:
        """The headers of the answer, known so far."""
        limits = self._reservation.headers() if self._reservation else {}
        return {**limits, **self.exchange.headers()}

    def hold_off(self) -> None:
        """Refuse whoever was told a moment ago to wait, before a byte of the request is read; raises RateLimited."""
        self.stages.quotas.hold_off(self._principal, self._address)

    @property
    def inspection(self) -> Inspection:
        """What the guards know of the request, once it is admitted."""
        if self._inspection is None:
            raise RuntimeError("the request was not admitted yet")
        return self._inspection

    async def admit(self, request: Request) -> None:
        """Check what came in; raises ContentPolicy, GuardUnavailable or InsufficientScope."""
        exchange, wishes = self.exchange, request.wishes
        exchange.model = request.model[:256]
        exchange.stream = request.stream
        self._texts = TEXTS[request.task]
        if wishes.languages:
            self._principal.require(LANGUAGES)
        rules = self.stages.guards.of(self._principal.tenant, request.model)
        self._inspection = inspection = Inspection(rules, request, allowed=frozenset(wishes.languages))
        if inspection.takes_time():
            await asyncio.to_thread(inspection.admit)
        else:
            inspection.admit()
        if inspection.unsure:
            self.stages.guards.aside.do(lambda: None if exchange.terminal else inspection.look_again())
        exchange.asked_language = bool(inspection.allowed)

    async def _judge(self) -> None:
        """Have a model look at what moderation is not sure of; raises ContentPolicy."""
        inspection = self.inspection
        moderation = inspection.rules.tables.moderation
        if not inspection.doubtful or moderation.judge is None or moderation.mode == "off":
            return
        text, began = "\n".join(inspection.doubtful), self.stages.clock()
        seconds, request_id = moderation.judge_seconds, self.exchange.request_id
        try:
            with self.exchange.span.step("judge") as step:
                abusive = await self.stages.judge.abusive(
                    text, target=moderation.judge, seconds=seconds, request_id=request_id, span=step
                )
        except NotJudged as reason:
            inspection.judged(None, f"judge: {reason}", self.stages.clock() - began)
            return
        inspection.judged(abusive, None, self.stages.clock() - began)

    async def ladder(self, request: Request) -> Ladder:
        """The targets that may and can answer, what they may use being reserved.

        Raises ModelNotFound, UpstreamUnavailable, or as `fitting` and `Quotas.reserve` do.
        """
        principal, stages = self._principal, self.stages
        if not stages.catalogue.knows(request.model, principal):
            raise errors.unknown_model(request.model)
        targets = stages.catalogue.targets(request.model, may_leave=principal.may_leave)
        self.exchange.published = True
        published = self._allowed(targets)
        pools = fitting(published, request)
        most = Estimate(Use(request.model), {})
        if stages.quotas.policy.counts_tokens(principal, self._address, request.model):
            most = await stages.estimates.most(request, pools)
        with self.exchange.span.step("limits"):
            self._reservation = await stages.quotas.reserve(principal, self._address, most.use)
        if most.use.tokens:
            stages.ledger.reserve(self.exchange, most.prompt, most.use.tokens - most.prompt, NANO * most.use.money)
        return Ladder(pools, principal.tenant, request.texts(), most.bounds, self.exchange.span)

    def _allowed(self, pools: tuple[Pool, ...]) -> tuple[Pool, ...]:
        """The pools that the request's personal data may go to; raises ContentPolicy where there is none."""
        if not any(pool.target.outside for pool in pools) or self.inspection.may_go_outside():
            return pools
        inside = tuple(pool for pool in pools if not pool.target.outside)
        if not inside:
            self.inspection.convict("personal_data")
        return inside

    async def deliver(self, request: Request, surface: Surface) -> None:
        """Get an answer and send it, streamed or plain."""
        tries = self._tries = Tries(self.stages, surface, request, self.exchange, self.inspection)
        ladder = await self.ladder(request)
        await self._judge()
        answering = tries.help if self.inspection.distressed else partial(tries.answer, ladder)
        if request.stream:
            await self._stream(answering, tries, surface)
            return
        whole: list[Chunk] = []

        async def gather(some: list[Chunk]) -> None:
            whole.extend(some)

        await answering(gather)
        completion = collect.completion(whole, tries.usage())
        if request.wishes.audit:
            tries.audit()
        await self.whole(orjson.dumps({**surface.whole(completion), **self._told(request)}))

    def _told(self, request: Request) -> dict[str, Any]:
        """The audit, for a caller who wishes it."""
        return {"passerelle": self.exchange.audit()} if request.wishes.audit else {}

    async def whole(self, body: bytes) -> None:
        """Send a plain answer and settle."""
        self.ended(State.BLOCKED if self.exchange.blocked_by else State.COMPLETED, status=200)
        await self._settled()
        await self._start(_JSON)
        await self._write(body, more=False)

    async def fail(self, error: GatewayError | AuthError) -> None:
        """End by an error: raised to be rendered, or, once a stream has begun, in it. No [DONE], no invented finish_reason."""
        if self.exchange.status == 200:
            self.ended(State.TRUNCATED, status=200, error=error.code)
            await self._write(errors.event(error), more=False)
            return
        if self._reservation is None and isinstance(error, InvalidRequest):
            error = await self._counted(error)
        self.ended(State.FAILED if self.exchange.attempts else State.REFUSED, status=error.status, error=error.code)
        error.headers = {**self.headers(), **error.headers}
        if isinstance(error, ContextLengthExceeded) and error.param is None:  # a model server knows no task of ours
            error.param = self._texts
        raise error

    def ended(self, state: State, *, status: int, error: str | None = None) -> None:
        """Settle the exchange; only the first call counts."""
        exchange = self.exchange
        if exchange.terminal:
            return
        if state is State.FAILED and exchange.state is State.COMMITTED:
            state = State.TRUNCATED
        exchange.move(state)
        exchange.status, exchange.error, exchange.ended = status, error, self.stages.clock()
        if exchange.attempts and self._tries is not None:
            self._tries.audit()
        elif self._inspection is not None:
            exchange.guards = self._inspection.audit(())
        charge = self.stages.ledger.settle(exchange)
        if self._reservation is not None:
            self.stages.quotas.settle(self._reservation, charge.tokens, charge.cost)
        self.stages.observe(exchange)

    async def _settled(self) -> None:
        """Whoever has the whole answer may ask again at once, of any worker."""
        if self._reservation is not None:
            await self.stages.quotas.limiter.settled(self._reservation)

    async def _counted(self, error: GatewayError) -> GatewayError:
        """Count a request that nothing can be done with, as OpenAI does; what is told of it, or that there were too many."""
        try:
            self._reservation = await self.stages.quotas.reserve(self._principal, self._address, None)
        except RateLimited as limited:
            return limited
        except LimitsUnavailable:
            pass
        return error

    async def _stream(self, answering: Answering, tries: Tries, surface: Surface) -> None:
        async def leave(some: list[Chunk]) -> None:
            if not self.exchange.status:
                self._silence = _Silence(self.stages.settings.times.keep_alive, self._comment)
                await self._start(_EVENT_STREAM)
            await self._write(_events(some, surface))

        try:
            await answering(leave)
        except Failure as failure:
            if not self.exchange.status:
                raise
            await self.fail(failure.error)
            return
        finally:
            if self._silence is not None:
                self._silence.end()
                self._silence = None  # it refers to this delivery: the garbage collector would have to find them
        last = tries.usage_chunk()
        if tries.request.wishes.audit:
            tries.audit()
            last = {**(last or tries.empty_chunk()), **self._told(tries.request)}
        self.ended(State.BLOCKED if self.exchange.blocked_by else State.COMPLETED, status=200)
        await self._settled()
        await self._write((_events([last], surface) if last else b"") + sse.DONE, more=False)

    async def _comment(self) -> None:
        """Comments while nothing is released, or a proxy on the way would take the connection for dead."""
        seconds = self.stages.settings.times.keep_alive
        while True:
            silent = self.stages.clock() - self._silent_since
            if silent >= seconds:
                await self._write(sse.KEEP_ALIVE)
            else:
                await asyncio.sleep(seconds - silent)

    async def _start(self, headers: dict[str, str]) -> None:
        self.exchange.status = 200
        pairs = [(name.encode(), value.encode()) for name, value in {**headers, **self.headers()}.items()]
        await self._send({"type": "http.response.start", "status": 200, "headers": pairs})

    async def _write(self, body: bytes, *, more: bool = True) -> None:
        self._silent_since = self.stages.clock()
        await self._send({"type": "http.response.body", "body": body, "more_body": more})


class _Silence:
    """Begins `comment` when `seconds` have passed. Most streams have ended by then, and a timer costs less than a task."""

    def __init__(self, seconds: float, comment: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._comment = comment
        self._timer = asyncio.get_running_loop().call_later(seconds, self._begin)
        self._comments: asyncio.Task[None] | None = None

    def end(self) -> None:
        self._timer.cancel()
        if self._comments is not None:
            self._comments.cancel()

    def _begin(self) -> None:
        self._comments = asyncio.create_task(self._comment())


def _events(chunks: list[Chunk], surface: Surface) -> bytes:
    return b"".join([sse.event(orjson.dumps(surface.write(chunk))) for chunk in chunks])
