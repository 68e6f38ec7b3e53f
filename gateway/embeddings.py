"""`/v1/embeddings`: texts to vectors, passed to a pool that makes them (OpenAI API reference, "Create embeddings").

Nothing is generated, so nothing is gated on the way out. Vectors of two models cannot be compared: a fallback to another model
would fill a caller's index with nonsense, so only targets of the same upstream model stand in for each other (`fit`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Final

import orjson

from gateway import failure, parameters
from gateway.completions import texts_of
from gateway.delivery import Delivery
from gateway.errors import ContextLengthExceeded, GatewayError
from gateway.events import Chunk
from gateway.exchange import Outcome, State
from gateway.failure import Failure
from gateway.protocol import ModelFields, ModelRequest, convert, decode
from gateway.routing import Ask
from gateway.target import Task

_OURS: Final = frozenset({"model", "stream", "stream_options", "passerelle"})


class Fields(ModelFields, kw_only=True):
    """The fields the gateway acts on, and their types."""

    input: str | list[Any]


class EmbeddingRequest(ModelRequest, frozen=True, kw_only=True):
    """A checked request; `inputs` has at least one text."""

    fields: Fields
    inputs: list[str]
    task: Task = "embeddings"
    stream: bool = False
    include_usage: bool = False
    max_tokens: int | None = None
    choices: int = 1

    def texts(self) -> Sequence[str]:
        """The texts."""
        return self.inputs


def parse(body: bytes, *, max_choices: int) -> EmbeddingRequest:
    """A body as a request; raises InvalidRequest as `protocol.parse` does."""
    raw = decode(body)
    parameters.check(raw, parameters.REFUSED_OF_EMBEDDINGS)
    fields = convert(raw, Fields)
    return EmbeddingRequest(raw=raw, fields=fields, inputs=texts_of(fields.input, "input"))


async def deliver(delivery: Delivery, request: EmbeddingRequest) -> None:
    """Get the vectors and send them."""
    answer = await _answered(delivery, request)
    delivery.exchange.move(State.COMMITTED)
    await delivery.whole(orjson.dumps({**answer, "model": request.model}))


async def _answered(delivery: Delivery, request: EmbeddingRequest) -> Chunk:
    """The first usable answer; raises GatewayError."""
    failed = failure.unavailable("not asked")
    with await delivery.ladder(request) as ladder:
        while (ask := await ladder.current()) is not None:
            try:
                with ask.call:
                    return await _asked(delivery, request, ask)
            except ContextLengthExceeded:
                if not ladder.too_long():
                    raise
            except Failure as error:
                failed = error
                ladder.failed()
    raise failed.error


async def _asked(delivery: Delivery, request: EmbeddingRequest, ask: Ask) -> Chunk:
    target, answer = ask.pool.target, None
    attempt = delivery.exchange.attempt(
        ask.pool.name, firm=ask.firm, replica=ask.call.replica.index, model=target.model, kind=target.kind
    )
    ask.call.tell = attempt.took
    outgoing, _ = delivery.inspection.outgoing(outside=target.outside)
    asked = {key: value for key, value in outgoing.raw.items() if key not in _OURS}
    body = orjson.dumps({**asked, "model": target.model})
    try:
        answer = await delivery.stages.upstream.whole(
            f"{ask.call.replica.url}/embeddings",
            ask.pool.key,
            body,
            delivery.exchange.request_id,
            attempt.span.headers(outside=target.outside),
        )
        if not isinstance(data := answer.get("data"), list) or len(data) != len(request.inputs):
            raise failure.failed("not one vector for each text")
        attempt.outcome = Outcome.SERVED
    except Failure as error:
        attempt.failed(error.reason)
        raise
    except GatewayError as refusal:  # the request itself is at fault
        attempt.failed(refusal.code or "refused", refused=True)
        raise
    finally:
        usage = answer.get("usage") if answer else None
        estimate = partial(delivery.stages.reckoner.estimate, target, request)
        attempt.count(usage if isinstance(usage, dict) else None, prompt_estimate=estimate, deltas=0)
    return answer
