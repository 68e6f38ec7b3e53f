"""The HTTP surface: `/v1`, and the probes an operator's machinery asks."""

from collections.abc import Awaitable, Callable
from functools import partial
from hmac import compare_digest
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Path, Request, Response
from fastapi.responses import JSONResponse
from fastapi.routing import iter_route_contexts
from pydantic import SecretStr
from starlette.routing import Route

from auth import Principal, bearer
from auth.errors import InvalidToken
from auth.principal import MODELS
from gateway import documented, ids
from gateway.access import Access
from gateway.chat import Chat, ChatResponse
from gateway.errors import unknown_model
from gateway.exchange import Exchange
from gateway.health import Health
from gateway.metrics import Metrics
from gateway.spans import UNSEEN
from gateway.target import Task
from gateway.telemetry import Trace

Named = Annotated[str, Path(examples=[documented.A_MODEL])]


def v1(chat: Chat, access: Access) -> APIRouter:
    """The OpenAI-compatible routes; every one of them needs a principal."""
    routes = APIRouter(prefix="/v1", tags=["openai"])
    Caller = Annotated[Principal, Depends(access)]  # noqa: N806  # a type
    answer = partial(_answer, chat)

    @routes.post(
        "/chat/completions",
        summary="Ask a model",
        openapi_extra=documented.CHAT_BODY,
        responses=documented.CHAT_ANSWERS,
    )
    async def chat_completions(http: Request, caller: Caller) -> Response:
        return answer(http, caller, "chat")

    @routes.post(
        "/completions",
        summary="Let a model go on from a text",
        openapi_extra=documented.COMPLETION_BODY,
        responses=documented.COMPLETION_ANSWERS,
    )
    async def completions(http: Request, caller: Caller) -> Response:
        return answer(http, caller, "completions")

    @routes.post(
        "/embeddings",
        summary="Turn texts into vectors",
        openapi_extra=documented.EMBEDDINGS_BODY,
        responses=documented.EMBEDDINGS_ANSWERS,
    )
    async def embeddings(http: Request, caller: Caller) -> Response:
        return answer(http, caller, "embeddings")

    @routes.get("/models", summary="The models that are published", responses=documented.MODELS_ANSWERS)
    async def models(caller: Caller) -> Response:
        caller.require(MODELS)
        return JSONResponse(
            {
                "object": "list",
                "data": [
                    _model(chat, caller, name) for name in chat.catalogue.names() if chat.catalogue.knows(name, caller)
                ],
            }
        )

    @routes.get(
        "/models/{name:path}",
        summary="One model; its name may hold slashes",
        responses=documented.MODEL_ANSWERS,
    )
    async def model(name: Named, caller: Caller) -> Response:
        caller.require(MODELS)
        return JSONResponse(_model(chat, caller, name))

    return routes


def short(chat: Chat, access: Access) -> dict[str, Callable[[Request], Awaitable[Response]]]:
    """What answers POSTs to the paths below, past the framework: see `gateway.lane`."""

    async def answer(task: Task, http: Request) -> Response:
        return _answer(chat, http, await access(http), task)

    paths: dict[str, Task] = {
        "/v1/chat/completions": "chat",
        "/v1/completions": "completions",
        "/v1/embeddings": "embeddings",
    }
    return {path: partial(answer, task) for path, task in paths.items()}


def _answer(chat: Chat, http: Request, caller: Principal, task: Task) -> Response:
    trace: Trace = http.scope["passerelle"]
    exchange = Exchange(ids.new(), trace.request_id, chat.clock(), caller.tenant, caller.subject, caller.key)
    trace.exchange, exchange.span = exchange, http.scope.get("passerelle.span", UNSEEN)
    return ChatResponse(chat, http, caller, exchange, task)


def probes(health: Health, metrics: Metrics, token: SecretStr | None = None) -> APIRouter:
    """Open routes: is the process alive, can it answer, and its figures, which want `token` if there is one."""
    routes = APIRouter(tags=["operation"])

    @routes.get("/livez", summary="The process answers", responses=documented.ALIVE)
    async def livez() -> Response:
        return JSONResponse({"status": "ok"})

    @routes.get(
        "/readyz",
        summary="The gateway can answer: a target of at least one model is there, and it is not being stopped",
        responses=documented.READY,
    )
    async def readyz() -> Response:
        told = await health.readiness()
        body: dict[str, Any] = {"status": told.status, "parts": told.parts}
        if notes := health.notes():
            body["notes"] = notes
        return JSONResponse(body, 200 if told.ready else 503)

    @routes.get(
        "/metrics",
        summary="Prometheus metrics",
        responses=documented.FIGURES,
        response_class=Response,
    )
    async def prometheus(http: Request) -> Response:
        if token is not None:
            given = bearer(http.headers.get("authorization"))
            if not compare_digest(given.encode(), token.get_secret_value().encode()):
                raise InvalidToken
        return Response(await metrics.shown(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return routes


def publish(app: FastAPI) -> None:
    """Have `app` say at /openapi.json what it is, and what is true of all its routes."""
    app.version, app.description = documented.about()
    app.openapi_tags = documented.TAGS
    usual = app.openapi

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = documented.completed(usual())
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]  # FastAPI's own way ("Extending OpenAPI")


def allowed(http: Request) -> str:
    """Every method of a request's path (RFC 9110, section 10.2.1); Starlette's own list stops at the first route."""
    known = (context.original_route for context in iter_route_contexts(http.app.routes))
    here = (route for route in known if isinstance(route, Route) and route.path_regex.match(http.url.path))
    return ", ".join(sorted({method for route in here for method in route.methods or ()}))


def _model(chat: Chat, caller: Principal, name: str) -> dict[str, Any]:
    if not chat.catalogue.knows(name, caller):
        raise unknown_model(name)
    # OpenAI gives the model's creation time; ours have none that would mean anything.
    return {"id": name, "object": "model", "created": 0, "owned_by": chat.catalogue.owner(name)}
