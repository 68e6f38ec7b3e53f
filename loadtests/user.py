"""One user: asks a French question, reads the answer, waits, asks the next."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlencode

from locust import FastHttpUser, task
from locust.contrib.fasthttp import FAILURE_EXCEPTIONS, FastResponse
from locust.env import Environment

from loadtests.answer import Failed, Moments, check_plain, first_model, follow, reason
from loadtests.login import Credentials, Grant, Login, grant

T = TypeVar("T")

QUESTIONS = tuple(Path(__file__).with_name("questions.txt").read_text(encoding="utf-8").splitlines())


@cache
def _login() -> Login:
    return Login(Credentials.from_environment())


class ChatUser(FastHttpUser):
    """Fires `ttft`, `inter_token` and `total` for streamed answers, `total` for plain ones, in milliseconds.

    Locust's own time of a streamed request stops at the headers, so its event is not used.
    """

    insecure = False  # a certificate is checked: the password goes over this connection
    connection_timeout = 10.0
    network_timeout = 120.0

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        if environment.parsed_options is None:
            raise ValueError("the users need the command line's options")
        self._options = environment.parsed_options
        self._login = _login()
        self._model: str = self._options.model

    def wait_time(self) -> float:
        """Seconds to the next question."""
        return float(self._options.pause)

    @task
    def ask(self) -> None:
        """One question, streamed or plain as the weights say."""
        weights = (self._options.streamed, self._options.plain)
        kind = random.choices(("streamed", "plain"), weights)[0]  # noqa: S311  # no secret depends on it
        try:
            token = self._login.token(self._exchange)
            self._model = self._model or self._first_model(token)
        except Failed:
            return  # already counted, by the request that failed
        if kind == "streamed":
            self._streamed(token)
        else:
            self._plain(token)

    def _streamed(self, token: str) -> None:
        moments = Moments(time.perf_counter())
        lines = self._lines(token)
        failure: Failed | None = None
        try:
            follow(lines, moments, time.perf_counter)
        except Failed as failed:
            failure = failed
        ended = time.perf_counter()
        if failure is None:
            _drain(lines)
        lines.close()
        if moments.first is not None:
            self._fire("streamed", "ttft", moments.first - moments.started)
        for gap in moments.gaps:
            self._fire("streamed", "inter_token", gap)
        self._fire("streamed", "total", ended - moments.started, failure)

    def _plain(self, token: str) -> None:
        started = time.perf_counter()
        failure: Failed | None = None
        try:
            response = self._send(token, stream=False)
            check_plain(response.content or b"")
        except Failed as failed:
            failure = failed
        self._fire("plain", "total", time.perf_counter() - started, failure)

    def _lines(self, token: str) -> Generator[bytes]:
        """The lines of a streamed answer the moment they arrive; `iter_content` would wait for a full block."""
        response = self._send(token, stream=True)._response
        if response is None:
            raise Failed("no response")
        try:
            while line := response.readline(b"\n"):
                yield bytes(line)
        except FAILURE_EXCEPTIONS as error:
            raise Failed(f"connection lost: {type(error).__name__}") from None
        finally:
            response.release()  # closes the connection unless the whole body was read

    def _send(self, token: str, *, stream: bool) -> FastResponse:
        body = {
            "model": self._model,
            "messages": [{"role": "user", "content": random.choice(QUESTIONS)}],  # noqa: S311
            "max_tokens": int(self._options.max_tokens),
            "stream": stream,
        }
        headers = {
            "authorization": f"Bearer {token}",
            "content-type": "application/json",
            "accept-encoding": "identity",
        }
        # `catch_response` without `with`: locust fires no event of its own.
        response = self.client.post(
            "/v1/chat/completions", json.dumps(body), headers=headers, stream=stream, catch_response=True
        )
        if response.status_code == 401:
            self._login.refused(token)
        _check(response)
        return response

    def _exchange(self, form: Mapping[str, str]) -> Grant:
        headers = {"content-type": "application/x-www-form-urlencoded"}
        return self._ask_json("POST", "/auth/token", "login", headers, urlencode(form), read=grant)

    def _first_model(self, token: str) -> str:
        headers = {"authorization": f"Bearer {token}"}
        return self._ask_json("GET", "/v1/models", "models", headers, read=first_model)

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
        with self.client.request(method, path, name=name, data=data, headers=headers, catch_response=True) as response:
            try:
                _check(response)
                return read(response.content or b"")
            except Failed as failed:
                response.failure(failed)
                raise

    def _fire(self, kind: str, name: str, seconds: float, failure: Failed | None = None) -> None:
        self.environment.events.request.fire(
            request_type=kind, name=name, response_time=seconds * 1000, response_length=0, exception=failure, context={}
        )


def _drain(lines: Iterable[bytes]) -> None:
    """Read what follows [DONE], so that the connection can be used again."""
    with suppress(Failed):
        for _ in lines:
            pass


def _check(response: FastResponse) -> None:
    """Raise Failed unless the response is a 2xx; the name is its status and the error's code."""
    status = response.status_code
    if status == 0:
        raise Failed(f"no connection: {type(getattr(response, 'error', None)).__name__}")
    if not 200 <= status < 300:
        raise Failed(f"{status} {reason(response.content or b'')}".strip())
