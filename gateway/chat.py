"""One request to a model, top to bottom: `Chat.answer` names every stage and contains none of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, NamedTuple

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from auth import Principal, principal
from auth.errors import AuthError
from gateway import completions, embeddings, payload, protocol
from gateway.delivery import Delivery
from gateway.disconnect import ClientClosed, unless_disconnected
from gateway.errors import GatewayError
from gateway.exchange import Exchange, State
from gateway.stages import Stages
from gateway.stopping import stopped
from gateway.surface import CHAT, COMPLETIONS
from gateway.target import Task


class Kind(NamedTuple):
    """How the requests of a task are read, and how they are answered."""

    parse: Callable[..., Any]
    deliver: Callable[[Delivery, Any], Coroutine[Any, Any, None]]


KINDS: Final[Mapping[Task, Kind]] = {
    "chat": Kind(protocol.parse, partial(Delivery.deliver, surface=CHAT)),
    "completions": Kind(completions.parse, partial(Delivery.deliver, surface=COMPLETIONS)),
    "embeddings": Kind(embeddings.parse, embeddings.deliver),
}


@dataclass(frozen=True)
class Chat(Stages):
    """The pipeline."""

    async def answer(self, http: Request, caller: Principal, exchange: Exchange, send: Send, task: Task) -> None:
        """Answer one request; every way out settles the exchange exactly once."""
        delivery, kind = Delivery(self, caller, exchange, send, _address(http)), KINDS[task]
        try:
            caller.require(principal.CHAT)
            delivery.hold_off()
            raw = await payload.read(http, self.settings.server.body_limit_bytes)
            request = kind.parse(raw, max_choices=self.quotas.policy.max_choices)
            with exchange.span.step("guards"):
                await delivery.admit(request)
            await unless_disconnected(http.scope, http.receive, kind.deliver(delivery, request))
        except (ClientClosed, ClientDisconnect):
            delivery.ended(State.CLIENT_CLOSED, status=exchange.status or 499)
        except (GatewayError, AuthError) as error:
            await delivery.fail(error)
        except asyncio.CancelledError:  # nobody but the server cancels, when the time for open requests is over
            if exchange.ended is not None:
                raise
            await delivery.fail(stopped())
        finally:
            delivery.ended(State.FAILED, status=exchange.status or 500, error="internal_error")


def _address(http: Request) -> str:
    return http.client.host if http.client else ""


class ChatResponse(Response):
    """An ASGI answer that is made while it is sent."""

    def __init__(self, chat: Chat, http: Request, caller: Principal, exchange: Exchange, task: Task) -> None:
        super().__init__()
        self._chat, self._http, self._caller, self._exchange, self._task = chat, http, caller, exchange, task

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the pipeline against the connection."""
        with self._chat.live.follow(self._exchange):
            await self._chat.answer(self._http, self._caller, self._exchange, send, self._task)
