"""The HTTP surface: `/v1`, and the probes an operator's machinery asks."""

import uuid
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse

from auth import Principal
from auth.principal import MODELS
from gateway.access import Access
from gateway.chat import Chat, ChatResponse
from gateway.documented import LOOK, MODEL_CALL, answers, json_body
from gateway.errors import unknown_model
from gateway.exchange import Exchange
from gateway.health import Health
from gateway.target import Task
from gateway.telemetry import Metrics, Trace


def _body(title: str, *required: str, **properties: dict[str, Any]) -> dict[str, Any]:
    """The part of the OpenAPI document that says what a route takes: the fields acted on, and where the others are described."""
    return json_body(
        {
            "type": "object",
            "description": f"As OpenAI's API reference has it, “{title}”.",
            "required": ["model", *required],
            "properties": {"model": {"type": "string"}, **properties},
        }
    )


_STREAM: dict[str, Any] = {"type": "boolean"}
_TEXTS: dict[str, Any] = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}
_MESSAGES: dict[str, Any] = {"type": "array", "minItems": 1, "items": {"type": "object"}}


def v1(chat: Chat, access: Access) -> APIRouter:
    """The OpenAI-compatible routes; every one of them needs a principal."""
    routes = APIRouter(prefix="/v1", tags=["openai"])
    Caller = Annotated[Principal, Depends(access)]  # noqa: N806  # a type

    def answer(http: Request, caller: Principal, task: Task) -> Response:
        trace: Trace = http.scope["passerelle"]
        exchange = Exchange(uuid.uuid4().hex, trace.request_id, chat.clock(), caller.tenant, caller.subject)
        trace.exchange = exchange
        return ChatResponse(chat, http, caller, exchange, task)

    streamed = answers(200, *MODEL_CALL, streams=True)
    taken = _body("Create chat completion", "messages", messages=_MESSAGES, stream=_STREAM)

    @routes.post("/chat/completions", summary="Ask a model", openapi_extra=taken, responses=streamed)
    async def chat_completions(http: Request, caller: Caller) -> Response:
        return answer(http, caller, "chat")

    taken = _body("Create completion", "prompt", prompt=_TEXTS, stream=_STREAM)

    @routes.post("/completions", summary="Let a model go on from a text", openapi_extra=taken, responses=streamed)
    async def completions(http: Request, caller: Caller) -> Response:
        return answer(http, caller, "completions")

    @routes.post(
        "/embeddings",
        summary="Turn texts into vectors",
        openapi_extra=_body("Create embeddings", "input", input=_TEXTS),
        responses=answers(200, *MODEL_CALL),
    )
    async def embeddings(http: Request, caller: Caller) -> Response:
        return answer(http, caller, "embeddings")

    @routes.get("/models", summary="The models that are published", responses=answers(200, *LOOK))
    async def models(caller: Caller) -> Response:
        caller.require(MODELS)
        return JSONResponse(
            {
                "object": "list",
                "data": [_model(chat, caller, name) for name in chat.catalogue.names() if caller.knows(name)],
            }
        )

    @routes.get("/models/{name:path}", summary="One model; its name may hold slashes", responses=answers(200, *LOOK))
    async def model(name: str, caller: Caller) -> Response:
        caller.require(MODELS)
        return JSONResponse(_model(chat, caller, name))

    return routes


def probes(health: Health, metrics: Metrics) -> APIRouter:
    """Open routes: is the process alive, can it answer, and its figures."""
    routes = APIRouter(tags=["operation"])

    @routes.get("/livez", summary="The process answers")
    async def livez() -> Response:
        return JSONResponse({"status": "ok"})

    @routes.get(
        "/readyz",
        summary="The gateway can answer: its database and a target of each model are there",
        responses={503: {"description": "It cannot.", "content": {"application/json": {"schema": {"type": "object"}}}}},
    )
    async def readyz() -> Response:
        parts = await health.parts()
        ready = all(parts.values())
        body: dict[str, Any] = {
            "status": "ok" if ready else "unavailable",
            "parts": {name: "ok" if up else "down" for name, up in parts.items()},
        }
        if notes := health.notes():
            body["notes"] = notes
        return JSONResponse(body, 200 if ready else 503)

    @routes.get(
        "/metrics",
        summary="Prometheus metrics",
        responses={200: {"description": "Figures.", "content": {"text/plain": {"schema": {"type": "string"}}}}},
        response_class=Response,
    )
    async def prometheus() -> Response:
        return Response(metrics.render(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return routes


def _model(chat: Chat, caller: Principal, name: str) -> dict[str, Any]:
    if not caller.knows(name):
        raise unknown_model(name)
    # OpenAI gives the model's creation time; ours have none that would mean anything.
    return {"id": name, "object": "model", "created": 0, "owned_by": chat.catalogue.owner(name)}
