"""The application, with a short way for the requests that a model answers.

They are nearly all there is, and the framework's layers around a route (its error, telemetry, body-limit and exit-stack
middlewares, two routers, the resolution of dependencies) cost as much as the guards do. So those routes are called as they are,
inside the middlewares of ours. FastAPI knows them all the same: it documents them, and answers what is no POST.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
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
Rendered = Callable[[Request, Exception], Awaitable[Response]]  # makes the answer to an error


class Gateway(FastAPI):
    """FastAPI's application; what `shorten` names does not pass through it."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._lanes: dict[str, Callable[[Route], ASGIApp]] = {}

    def shorten(self, answering: Mapping[str, Answering], rendered: Rendered) -> None:
        """Have POSTs to the paths of `answering` answered by it; `rendered` makes answers of its errors."""
        self._lanes = {path: partial(Lane, each, rendered) for path, each in answering.items()}

    def build_middleware_stack(self) -> ASGIApp:
        """See FastAPI. Each way has the middlewares that were added."""
        known = [context.original_route for context in iter_route_contexts(self.routes)]
        found = {route.path: route for route in known if isinstance(route, Route)}
        lanes: dict[str, ASGIApp] = {}
        for path, made in self._lanes.items():
            lane = made(found[path])
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

    def __init__(self, answering: Answering, rendered: Rendered, route: Route) -> None:
        self._answering, self._rendered, self._route = answering, rendered, route

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        scope["route"] = self._route
        http = Request(scope, receive)
        try:
            await (await self._answering(http))(scope, receive, send)
        except (GatewayError, AuthError) as error:
            await (await self._rendered(http, error))(scope, receive, send)
