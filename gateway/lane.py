"""The application, with a short way for the requests that a model answers.

They are nearly all there is, and the framework's layers around a route (its error, telemetry, body-limit and exit-stack
middlewares, two routers, the resolution of dependencies) cost as much as the guards do. So those routes are called as they are,
inside the middlewares of ours. FastAPI knows them all the same: it documents them, and answers what is no POST.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from auth.errors import AuthError
from gateway.errors import GatewayError

Answering = Callable[[Request], Awaitable[Response]]


class Gateway(FastAPI):
    """FastAPI's application; what `shorten` names does not pass through it."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._short: Mapping[str, Answering] = {}
        self._rendered: Callable[[Request, Exception], Awaitable[Response]] | None = None

    def shorten(
        self, answering: Mapping[str, Answering], rendered: Callable[[Request, Exception], Awaitable[Response]]
    ) -> None:
        """Have POSTs to the paths of `answering` answered by it; `rendered` makes answers of its errors."""
        self._short, self._rendered = answering, rendered

    def build_middleware_stack(self) -> ASGIApp:
        """See FastAPI. Each way has the middlewares that were added."""
        known = [context.original_route for context in iter_route_contexts(self.routes)]
        found = {route.path: route for route in known if isinstance(route, Route)}
        lanes: dict[str, ASGIApp] = {}
        for path, answering in self._short.items():
            lane: ASGIApp = Lane(answering, found[path], self._rendered)
            for middleware, args, options in reversed(self.user_middleware):
                lane = middleware(lane, *args, **options)
            lanes[path] = lane
        usual = super().build_middleware_stack()

        async def choose(scope: Scope, receive: Receive, send: Send) -> None:
            short = scope["type"] == "http" and scope["method"] == "POST"
            lane = lanes.get(scope["path"], usual) if short else usual
            await lane(scope, receive, send)

        return choose


class Lane:
    """ASGI: one route, whose errors are rendered."""

    def __init__(
        self,
        answering: Answering,
        route: Route,
        rendered: Callable[[Request, Exception], Awaitable[Response]] | None,
    ) -> None:
        self._answering, self._route, self._rendered = answering, route, rendered

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        scope["route"] = self._route
        http = Request(scope, receive)
        try:
            await (await self._answering(http))(scope, receive, send)
        except (GatewayError, AuthError) as error:
            if self._rendered is None:
                raise
            await (await self._rendered(http, error))(scope, receive, send)
