import inspect

import openai
import orjson
import pytest
from starlette.types import Receive, Scope, Send

from auth import errors as auth_errors
from gateway import errors
from gateway.errors import GatewayError
from tests.loopback import serve

OURS = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, GatewayError)]
EXPECTED = {
    "GatewayError": (500, "server_error", "internal_error"),
    "InvalidRequest": (400, "invalid_request_error", None),
    "PayloadTooLarge": (413, "invalid_request_error", "request_too_large"),
    "ContextLengthExceeded": (400, "invalid_request_error", "context_length_exceeded"),
    "ContentPolicy": (400, "invalid_request_error", "content_policy_violation"),
    "ModelNotFound": (404, "invalid_request_error", "model_not_found"),
    "NotFound": (404, "invalid_request_error", "not_found"),
    "MethodNotAllowed": (405, "invalid_request_error", "method_not_allowed"),
    "RateLimited": (429, "requests", "rate_limit_exceeded"),
    "InsufficientQuota": (429, "insufficient_quota", "insufficient_quota"),
    "LimitsUnavailable": (503, "server_error", "limits_unavailable"),
    "GuardUnavailable": (503, "server_error", "guard_unavailable"),
    "UpstreamFailed": (502, "server_error", "upstream_failed"),
    "UpstreamUnavailable": (503, "server_error", "upstream_unavailable"),
    "Overloaded": (503, "server_error", "overloaded"),
    "WrongTask": (404, "invalid_request_error", "model_not_supported"),
    "UpstreamTimeout": (504, "server_error", "upstream_timeout"),
    "ServerStopping": (503, "server_error", "server_stopping"),
}


@pytest.mark.parametrize("kind", OURS, ids=lambda kind: kind.__name__)
def test_an_error_has_the_status_type_and_code_that_callers_know(kind: type[GatewayError]) -> None:
    assert (kind.status, kind.type, kind.code) == EXPECTED[kind.__name__]


@pytest.mark.parametrize("kind", OURS, ids=lambda kind: kind.__name__)
def test_an_error_is_rendered_as_openai_s_object(kind: type[GatewayError]) -> None:
    status, headers, body = errors.render(kind("Ça ne va pas.", param="messages", headers={"retry-after": "3"}))
    assert status == kind.status
    assert headers == {"content-type": "application/json", "retry-after": "3"}
    expected = {"message": "Ça ne va pas.", "type": kind.type, "param": "messages", "code": kind.code}
    assert orjson.loads(body) == {"error": expected}


def test_an_error_of_the_other_package_is_rendered_the_same_way() -> None:
    error: auth_errors.AuthError = auth_errors.InvalidToken()
    status, headers, body = errors.render(error)
    assert (status, headers["www-authenticate"][:6]) == (401, "Bearer")
    assert orjson.loads(body)["error"]["param"] is None


async def test_an_error_in_a_stream_is_one_event_that_the_official_client_raises() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        await send({"type": "http.response.body", "body": errors.event(errors.UpstreamFailed("Coupé.\nFin."))})

    async with (
        serve(app, lifespan="off") as url,
        openai.AsyncOpenAI(base_url=url, api_key="k", max_retries=0) as client,
    ):
        stream = await client.chat.completions.create(model="m", messages=[], stream=True)
        with pytest.raises(openai.APIError, match=r"Coupé\.\nFin\.") as caught:
            await anext(stream)
    assert caught.value.code == "upstream_failed"


@pytest.mark.parametrize(
    ("kind", "given", "told"),
    [
        (errors.RateLimited, {}, "1"),
        (errors.UpstreamUnavailable, {}, "1"),
        (errors.UpstreamUnavailable, {"retry-after": "7"}, "7"),
        (errors.UpstreamFailed, {}, None),
    ],
)
def test_an_error_that_passes_says_when_to_try_again(
    kind: type[GatewayError], given: dict[str, str], told: str | None
) -> None:
    _, headers, _ = errors.render(kind("x", headers=given))
    assert headers.get("retry-after") == told
