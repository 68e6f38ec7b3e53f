"""`/v1/moderations`: what the guards make of a text, in the form of the OpenAI API reference ("Create moderation").

No answer is generated. What OpenAI's categories have no place for (injections, personal data, the language) is told beside them,
under `passerelle`.
"""

import asyncio
from typing import Annotated, Any, Final, Literal

import msgspec
from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from auth import Principal
from auth.principal import CHAT
from gateway import documented, payload
from gateway.access import Access
from gateway.errors import InvalidRequest
from gateway.guardrails.classifier import readings
from gateway.guardrails.guards import Rules, classifiers, kinds
from gateway.guardrails.personal import find
from gateway.judge import NotJudged
from gateway.money import ZERO
from gateway.protocol import convert, decode
from gateway.stages import Stages

MODEL: Final = "passerelle-moderation"
MOST: Final = 32  # texts in a request
_CATEGORIES: Final = (
    *("harassment", "harassment/threatening", "hate", "hate/threatening", "illicit", "illicit/violent"),
    *(
        "self-harm",
        "self-harm/intent",
        "self-harm/instructions",
        "sexual",
        "sexual/minors",
        "violence",
        "violence/graphic",
    ),
)


_PART: Final = documented.some(type=documented.constant("text"), text=documented.WORDS)
_BODY: Final = documented.json_body(
    {
        "type": "object",
        "description": "As OpenAI's API reference has it, “Create moderation”; whatever model is named, the guards judge.",
        "required": ["input"],
        "properties": {
            "input": {
                "anyOf": [
                    documented.WORDS,
                    {"type": "array", "minItems": 1, "maxItems": MOST, "items": {"anyOf": [documented.WORDS, _PART]}},
                ]
            },
            "model": documented.MAYBE_TEXT,
        },
    },
    text={"input": "Ce bouton ne marche jamais, c'est pénible !"},
)
_RESULT: Final = documented.some(
    flagged={"type": "boolean"},
    categories={"type": "object", "additionalProperties": {"type": "boolean"}},
    category_scores={"type": "object", "additionalProperties": {"type": "number"}},
    passerelle={"type": "object"},
)
_ANSWERS: Final = documented.answers(
    200,
    *(400, 401, 403, 413, 429, 503),
    of=documented.shape(id=documented.TEXT, model=documented.TEXT, results=documented.array(_RESULT)),
)


class TextPart(msgspec.Struct):
    """A text among inputs of several kinds."""

    type: Literal["text"]
    text: str


class Fields(msgspec.Struct):
    """The fields the gateway acts on; the model is ours whatever name is asked for."""

    input: str | list[str | TextPart]
    model: str | None = None


def router(stages: Stages, access: Access) -> APIRouter:
    """The route."""
    routes = APIRouter(prefix="/v1", tags=["openai"])
    Caller = Annotated[Principal, Depends(access)]  # noqa: N806  # a type

    @routes.post("/moderations", summary="Have the guards judge texts", openapi_extra=_BODY, responses=_ANSWERS)
    async def moderations(http: Request, caller: Caller) -> Response:
        caller.require(CHAT)
        reservation = await stages.quotas.reserve(caller, http.client.host if http.client else "", None)
        try:
            body = await payload.read(http, stages.settings.server.body_limit_bytes)
            answer = await moderation(stages, caller, body, request_id=http.scope["passerelle"].request_id)
        finally:
            stages.quotas.settle(reservation, 0, ZERO)
        return JSONResponse(answer, headers=reservation.headers())

    return routes


async def moderation(stages: Stages, principal: Principal, body: bytes, *, request_id: str) -> dict[str, Any]:
    """What the guards make of the texts in a body. Raises InvalidRequest."""
    given = convert(decode(body), Fields).input
    texts = [given] if isinstance(given, str) else [part if isinstance(part, str) else part.text for part in given]
    if not texts or not all(texts) or len(texts) > MOST:
        raise InvalidRequest(f"input must be a text or up to {MOST} texts, none of them empty.", param="input")
    rules = stages.guards.of(principal.tenant)
    results = [await _result(stages, rules, text, request_id) for text in texts]
    return {"id": f"modr-{request_id}", "model": MODEL, "results": results}


async def _result(stages: Stages, rules: Rules, text: str, request_id: str) -> dict[str, Any]:
    found = await asyncio.to_thread(_seen, rules, text)
    moderation = rules.tables.moderation
    score, abusive, reason = found["scores"]["moderation"], found["flagged"], None
    if not abusive and moderation.judge and score >= rules.threshold("moderation", "grey"):
        try:
            abusive = await stages.judge.abusive(
                text, target=moderation.judge, seconds=moderation.judge_seconds, request_id=request_id
            )
        except NotJudged as error:
            reason = f"judge: {error}"
    return _told(found, abusive=abusive, reason=reason)


def _seen(rules: Rules, text: str) -> dict[str, Any]:
    """What costs time; run in a thread."""
    trained = classifiers()
    read = readings(trained["moderation"].table, text)
    scores = {name: model.settle(model.look_at(read)) for name, model in trained.items()}
    return {
        "scores": scores,
        "flagged": scores["moderation"] >= rules.threshold("moderation"),
        "kinds": kinds().of(text),
        "injection": scores["injection"] >= rules.threshold("injection"),
        "distress": scores["distress"] >= rules.threshold("distress"),
        "personal_data": sorted({one.kind for one in find(text)}),
        "language": rules.detector.judge(text).value,
    }


def _told(found: dict[str, Any], *, abusive: bool, reason: str | None) -> dict[str, Any]:
    scores = dict.fromkeys(_CATEGORIES, 0.0)
    for kind, share in found["kinds"].items():
        scores[kind] = round(found["scores"]["moderation"] * share, 4)
    scores["self-harm"] = scores["self-harm/intent"] = round(found["scores"]["distress"], 4)
    worst = max(found["kinds"], key=found["kinds"].__getitem__, default="harassment")
    categories = dict.fromkeys(_CATEGORIES, False)
    categories["self-harm"] = categories["self-harm/intent"] = found["distress"]
    if abusive:
        categories[worst] = True
        if worst.endswith("/threatening"):
            categories[worst.partition("/")[0]] = categories["violence"] = True
    ours = {key: found[key] for key in ("injection", "distress", "personal_data", "language")}
    ours["moderation"] = {"verdict": "flagged" if abusive else "not_evaluated" if reason else "passed"}
    if reason:
        ours["moderation"]["reason"] = reason
    return {
        "flagged": abusive or found["distress"],
        "categories": categories,
        "category_scores": scores,
        "category_applied_input_types": {name: ["text"] for name in _CATEGORIES},
        "passerelle": ours,
    }
