"""What one user says to the gateway, and reads from it."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Mapping
from typing import TypeVar
from urllib.parse import urlencode

from locust.contrib.fasthttp import FAILURE_EXCEPTIONS, FastHttpSession, FastResponse

from loadtests.answer import Failed, Limited, first_model, reason
from loadtests.callers import Caller
from loadtests.login import Grant, grant

T = TypeVar("T")


class Talk:
    """Requests over one user's connections. Logins and lists of models are locust's events, chats are the user's own."""

    def __init__(self, session: FastHttpSession, max_tokens: float) -> None:
        self._session, self._max_tokens = session, int(max_tokens)

    def token(self, caller: Caller) -> str:
        """The caller's token, and its model found out; raises Failed when a request for them failed, which is then counted."""
        token = caller.login.token(self._exchange)
        with caller.one:
            if not caller.model:
                headers = {"authorization": f"Bearer {token}"}
                caller.model = self._ask_json("GET", "/v1/models", "models", headers, read=first_model)
        return token

    def ask(self, caller: Caller, token: str, prompt: str, *, stream: bool) -> FastResponse:
        """A 2xx answer to one question. Raises Limited for a 429, Failed for everything else."""
        body = {
            "model": caller.model,
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": self._max_tokens,
            "stream": stream,
        }
        headers = {
            "authorization": f"Bearer {token}",
            "content-type": "application/json",
            "accept-encoding": "identity",
        }
        # `catch_response` without `with`: locust fires no event of its own.
        response = self._session.post(
            "/v1/chat/completions", json.dumps(body), headers=headers, stream=stream, catch_response=True
        )
        if response.status_code == 401:
            caller.login.refused(token)
        if response.status_code == 429:
            code = reason(response.content or b"")
            raise Limited(complete=bool(code) and "retry-after" in (response.headers or {}))
        _check(response)
        return response

    def _exchange(self, form: Mapping[str, str]) -> Grant:
        headers = {"content-type": "application/x-www-form-urlencoded"}
        return self._ask_json("POST", "/auth/token", "login", headers, urlencode(form), read=grant)

    def _ask_json(
        self,
        method: str,
        path: str,
        name: str,
        headers: dict[str, str],
        data: str | None = None,
        *,
        read: Callable[[bytes], T],
    ) -> T:
        with self._session.request(
            method, path, name=name, data=data, headers=headers, catch_response=True
        ) as response:
            try:
                _check(response)
                return read(response.content or b"")
            except Failed as failed:
                response.failure(failed)
                raise


def lines(answer: FastResponse) -> Generator[bytes]:
    """The lines of a streamed answer the moment they arrive; `iter_content` would wait for a full block."""
    response = answer._response
    if response is None:
        raise Failed("no response")
    try:
        while line := response.readline(b"\n"):
            yield bytes(line)
    except FAILURE_EXCEPTIONS as error:
        raise Failed(f"connection lost: {type(error).__name__}") from None
    finally:
        response.release()  # closes the connection unless the whole body was read


def _check(response: FastResponse) -> None:
    """Raise Failed unless the response is a 2xx; the name is its status and the error's code."""
    status = response.status_code
    if status == 0:
        raise Failed(f"no connection: {type(getattr(response, 'error', None)).__name__}")
    if not 200 <= status < 300:
        raise Failed(f"{status} {reason(response.content or b'')}".strip())
