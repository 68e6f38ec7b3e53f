"""One streamed exchange with one model server, through a plain asyncio HTTP client.

Every failure of the network, of time or of the other side becomes one of two things: a `Failure` that another target may
mend, or a `GatewayError` that blames the request and goes straight back to the caller.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple, Self

import aiohttp
import orjson

from gateway import events, failure
from gateway.deadline import Deadline
from gateway.events import Chunk, Part
from gateway.failure import Failure
from gateway.pace import Pace, Steps
from gateway.settings import Times
from gateway.sse import MAX_EVENT_BYTES, EventParser, EventTooLarge

Headers = Mapping[str, str]
_NONE: Final[Headers] = MappingProxyType({})

_METRICS = ("text/plain", "application/openmetrics-text")
_ERROR_BYTES = 64 * 1024
_WHOLE_BYTES = 128 * 1024 * 1024  # 2,048 vectors of 3,072 numbers are about half of it
_DONE = b"[DONE]"
_KEEP_ALIVE_SECONDS = 4  # vLLM closes idle connections after 5 s: ours must go first


class Serving(NamedTuple):
    """What a server says of itself: whether it serves the model, and the model's context in tokens, if it says so."""

    up: bool
    context_length: int | None = None


class Upstream:
    """A pool of connections to all model servers. Open it with `async with`."""

    def __init__(self, times: Times) -> None:
        self._times, self._pace = times, Pace()
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Upstream:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEP_ALIVE_SECONDS),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._times.connect, connect=None),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"accept-encoding": "identity", "user-agent": "passerelle"},
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    def stream(self, url: str, key: str | None, body: bytes, request_id: str, trace: Headers = _NONE) -> Stream:
        """Asks `url` for a streamed completion, once entered. `trace` are headers that join its spans to ours."""
        return Stream(self._send(url, key, body, request_id, trace), self._times, self._pace)

    async def whole(self, url: str, key: str | None, body: bytes, request_id: str, trace: Headers = _NONE) -> Chunk:
        """Asks `url` for an answer in one JSON object; raises as `stream` does."""
        deadline = asyncio.get_running_loop().time() + self._times.total
        due = Deadline(min(asyncio.get_running_loop().time() + self._times.first_content, deadline))
        response: aiohttp.ClientResponse | None = None
        try:
            response = await _answered(self._send(url, key, body, request_id, trace), due)
            if response.status != 200:
                raise await _refusal(response, self._times.idle)
            due.move(deadline)
            answer = events.chunk(await _read_whole(response, due, _WHOLE_BYTES))
            response.release()
        finally:
            due.close()
            if response is not None:
                response.close()
        return answer

    async def serves(self, url: str, key: str | None, model: str) -> Serving:
        """Whether a server answers there within the connect limit, takes our key, and names the model if it names any."""
        headers = {"authorization": f"Bearer {key}"} if key else {}
        try:
            async with (
                asyncio.timeout(self._times.connect),
                self._open().get(f"{url}/models", headers=headers, allow_redirects=False) as answer,
            ):
                if answer.status != 200:
                    return Serving(answer.status in (404, 405))  # without that route nothing is said of models
                named = _named(await answer.content.read(_ERROR_BYTES))
        except (aiohttp.ClientError, OSError, TimeoutError):
            return Serving(up=False)
        return Serving(not named or model in named, named.get(model))

    async def metrics(self, url: str, *, within: float) -> str | None:
        """The Prometheus text of the server behind `url`; None where it has none, or none `within` so many seconds."""
        address, text = f"{url.removesuffix('/v1')}/metrics", b""
        try:
            async with asyncio.timeout(within), self._open().get(address, allow_redirects=False) as response:
                if response.status != 200 or response.content_type not in _METRICS:
                    return None
                while data := await response.content.readany():
                    text += data
                    if len(text) > MAX_EVENT_BYTES:
                        return None
        except (aiohttp.ClientError, OSError, TimeoutError):
            return None
        return text.decode(errors="replace")

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise RuntimeError("the upstream pool is used outside its context")
        return self._session

    async def _send(
        self, url: str, key: str | None, body: bytes, request_id: str, trace: Headers
    ) -> aiohttp.ClientResponse:
        headers = {"content-type": "application/json", "x-request-id": request_id, **trace}
        if key:
            headers["authorization"] = f"Bearer {key}"
        for attempt in (1, 2):
            try:
                return await self._open().post(url, data=body, headers=headers, allow_redirects=False)
            except aiohttp.ServerDisconnectedError as error:
                # A kept connection that the server closed meanwhile: the request was not read, so it may be sent again.
                if attempt == 2:
                    raise failure.unavailable("connection closed before an answer") from error
            except (aiohttp.ServerTimeoutError, aiohttp.ClientConnectorError) as error:
                raise failure.unavailable(f"cannot connect: {type(error).__name__}") from error
            except TimeoutError:
                raise  # the caller's limit
            except (aiohttp.ClientError, OSError) as error:
                raise failure.failed(f"broken exchange: {type(error).__name__}") from error
        raise AssertionError("unreachable")


class Stream:
    """One streamed completion, as a context that asks for it when it is entered.

    Leaving it closes the connection at once unless the answer was read to its end: that is what makes a model server stop
    working for nobody.

    Raises:
        Failure: no usable answer; raised on entry or by `parts`.
        GatewayError: the request itself was refused.
    """

    def __init__(self, sending: Coroutine[Any, Any, aiohttp.ClientResponse], times: Times, pace: Pace) -> None:
        """`sending` asks."""
        self._now = asyncio.get_running_loop().time  # whoever asks for the loop each time asks the system who asks
        now = self._now()
        self._sending, self._idle, self._last = sending, times.idle, now + times.total
        self._due = Deadline(min(self._last, now + times.first_content))
        self._parser, self._steps = EventParser(), Steps(pace)
        self._response: aiohttp.ClientResponse | None = None
        self._problem: Failure | None = None
        self._ended = self._whole = False

    async def __aenter__(self) -> Self:
        try:
            response = self._response = await _answered(self._sending, self._due)
            if response.status != 200:
                raise await _refusal(response, self._idle)
            if response.content_type not in ("text/event-stream", "application/json"):
                raise failure.failed(f"content type {response.content_type} instead of an event stream")
            # All is read that has come: aiohttp need not ask the connection to go on after each HTTP chunk of it.
            response.content._low_water = 1
        except BaseException:
            await self.__aexit__()
            raise
        response.content.on_eof(self._steps.over)
        self._whole = response.content_type == "application/json"  # a server that cannot stream answers in one piece
        return self

    async def __aexit__(self, *_: object) -> None:
        self._due.close()
        self._steps.end()
        if self._response is not None:
            self._response.close()

    async def parts(self) -> list[Part] | None:
        """What has come since the last time, once something has; None at the end."""
        response = self._response
        if response is None:
            raise RuntimeError("a stream is read outside its context")
        if self._problem is not None:
            raise self._problem
        if self._whole and not self._ended:
            self._ended = True
            return [_as_delta(events.chunk(await _read_whole(response, self._due, MAX_EVENT_BYTES)))]
        while not self._ended:
            await self._steps.pause(self._now())
            if self._now() >= self._last:  # also of a server from which there is always more to read
                raise failure.timeout("not done within the total limit")
            if batch := self._batch(await _read(response, self._due)):
                return batch
            if self._problem is not None:
                raise self._problem
        if not response.content.at_eof():
            await _drain(response)  # read the end of the body, so that the connection can be used again
        return None

    def _batch(self, data: bytes) -> list[Part]:
        """The parts in what came; a problem among them is kept until those before it have been used."""
        came = _parse(self._parser, data)
        self._ended = not data
        if _DONE in came:
            self._ended = True
            del came[came.index(_DONE) :]
        batch: list[Part] = []
        try:
            for part in events.parts(came):
                batch.append(part)  # noqa: PERF402  # what stands before a problem stays
        except Failure as problem:
            self._problem = problem
        if any(map(events.has_content, batch)):
            now = self._now()
            self._due.move(min(self._last, now + self._idle))
            self._steps.came(now)
        return batch


async def _answered(sending: Coroutine[Any, Any, aiohttp.ClientResponse], due: Deadline) -> aiohttp.ClientResponse:
    """The answer to what is sent, of which the head is there in time; raises Failure."""
    try:
        with due:
            return await sending
    except TimeoutError as error:
        raise failure.timeout("no answer within the first-content limit") from error


def _as_delta(chunk: Chunk) -> Chunk:
    for choice in chunk.get("choices") or ():
        choice["delta"] = choice.pop("message", None)
    return chunk


async def _refusal(response: aiohttp.ClientResponse, seconds: float) -> Exception:
    """The error behind a status other than 200: the caller's, or one that another target may mend."""
    try:
        async with asyncio.timeout(seconds):
            raw = await response.content.read(_ERROR_BYTES)
    except (aiohttp.ClientError, OSError, TimeoutError):
        raw = b""
    return failure.refusal(response.status, response.headers.get("retry-after"), raw)


def _named(raw: bytes) -> dict[str, int | None]:
    """The models of a list and their contexts, which vLLM calls `max_model_len`."""
    try:
        listed = orjson.loads(raw).get("data") or []
        lengths = {str(entry["id"]): entry.get("max_model_len") for entry in listed}
    except (orjson.JSONDecodeError, AttributeError, KeyError, TypeError):
        return {}
    return {name: length if type(length) is int and length > 0 else None for name, length in lengths.items()}


async def _read(response: aiohttp.ClientResponse, due: Deadline) -> bytes:
    try:
        if data := response.content.read_nowait():  # here already: nothing to wait for
            return data
        with due:
            return await response.content.readany()
    except TimeoutError as error:
        raise failure.timeout("silent for longer than the limit") from error
    except (aiohttp.ClientError, OSError) as error:
        if rest := response.content._read_nowait(-1):  # what came before it: aiohttp would not give it any more
            return rest
        raise failure.failed(f"cut: {type(error).__name__}") from error


async def _read_whole(response: aiohttp.ClientResponse, due: Deadline, limit: int) -> bytes:
    body = bytearray()
    while data := await _read(response, due):
        body += data
        if len(body) > limit:
            raise failure.failed("an answer that is too large")
    return bytes(body)


async def _drain(response: aiohttp.ClientResponse) -> None:
    try:
        async with asyncio.timeout(0.05):
            while await response.content.readany():
                pass
        response.release()
    except (aiohttp.ClientError, OSError, TimeoutError):
        response.close()


def _parse(parser: EventParser, data: bytes) -> list[bytes]:
    try:
        return parser.feed(data) if data else parser.close()
    except EventTooLarge as error:
        raise failure.failed(str(error)) from error
