"""A pool of replicas from outside: what callers see while one of them fails, is cut, or comes back."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest
from starlette.types import Receive, Scope, Send

from gateway.settings import Times
from gateway.upstream import Upstream as Client
from tests.gateway.test_load import OLD, metrics
from tests.house import LOOKING_ON, MODEL, House, house
from tests.loopback import serve
from tests.upstream import Exchange, chunk, refuses, says, upstream

QUESTION: list[Any] = [{"role": "user", "content": "Comment suivre mon avis ?"}]
CLOSED = "http://127.0.0.1:1/v1"
CUT, WHOLE = "Un début coupé. ", "Une réponse entière. "


@asynccontextmanager
async def pool(folder: Path, *urls: str, **routing: Any) -> AsyncIterator[House]:
    """A gateway whose target `local` has these replicas, before the outside one; the language is only annotated."""
    target = {"kind": "vllm", "urls": list(urls), "model": "falcon"}
    async with house(folder, targets={"local": target}, routing=routing, guards=LOOKING_ON) as running:
        yield running


async def asked(home: House) -> tuple[str | None, str]:
    """One answer: what was tried, and its text."""
    raw = await home.client().chat.completions.with_raw_response.create(model=MODEL, messages=QUESTION)
    return raw.headers.get("x-passerelle-attempts"), raw.parse().choices[0].message.content or ""


async def shown(home: House, path: str) -> str:
    async with aiohttp.ClientSession() as session, session.get(home.url + path) as answer:
        return await answer.text()


def state(text: str, replica: int) -> float:
    name = f'passerelle_replica_state{{replica="{replica}",target="local"}} '
    return float(text.partition(name)[2].partition("\n")[0])


async def test_with_a_dead_replica_every_request_is_answered(tmp_path: Path) -> None:
    async with upstream() as alive, pool(tmp_path, CLOSED, alive.url) as home:
        answers = await asyncio.gather(*(asked(home) for _ in range(40)))
        assert {text for _, text in answers} == {"Voici une réponse tout à fait française. Merci de votre patience."}
        assert {tried for tried, _ in answers} <= {None, "local=failed, local=served"}
        assert len(alive.asked) == 40
        assert home.outside.asked == []
        assert state(await shown(home, "/metrics"), 0) == 2
        assert state(await shown(home, "/metrics"), 1) == 0


async def test_a_failing_replica_is_asked_until_its_breaker_opens_and_no_more(tmp_path: Path) -> None:
    async with (
        upstream() as broken,
        upstream() as alive,
        pool(tmp_path, broken.url, alive.url, failures=3, cool_down_seconds=600) as home,
    ):
        broken.answers(refuses(500))
        tried = [(await asked(home))[0] for _ in range(40)]
        assert len(broken.asked) == tried.count("local=failed, local=served") == 3
        assert tried[-20:] == [None] * 20


async def test_a_replica_that_is_back_is_found_by_one_trial(tmp_path: Path) -> None:
    async with (
        upstream() as broken,
        upstream() as alive,
        pool(tmp_path, broken.url, alive.url, failures=1, cool_down_seconds=0.3) as home,
    ):
        broken.answers(refuses(503))
        while not broken.asked:
            await asked(home)
        assert state(await shown(home, "/metrics"), 0) == 2
        broken.answers(says("De retour."))
        until = time.monotonic() + 20
        while (await asked(home))[1] != "De retour.":
            assert time.monotonic() < until
        assert len(broken.asked) == 2
        assert state(await shown(home, "/metrics"), 0) == 0


async def test_when_all_replicas_are_left_alone_the_status_is_503_and_says_when_to_come_back(tmp_path: Path) -> None:
    async with upstream() as one, upstream() as two, pool(tmp_path, one.url, two.url, failures=1) as home:
        for broken in (one, two):
            broken.answers(refuses(500))
        for status in (502, 503):
            with pytest.raises(openai.APIStatusError) as failed:
                await home.client(may_leave=False).chat.completions.create(model=MODEL, messages=QUESTION)
            assert failed.value.status_code == status
        assert failed.value.code == "upstream_unavailable"
        assert 1 <= int(failed.value.response.headers["retry-after"]) <= 5
        assert (len(one.asked), len(two.asked)) == (1, 1)
        rows = await home.ledger(failed.value.response.headers["x-request-id"])
        assert [(row["kind"], row["state"]) for row in rows] == [("release", "refused")]
        assert (await asked(home))[0] is None  # a caller whose text may leave has the next target
        assert len(home.outside.asked) == 1


async def test_a_refusal_of_the_caller_s_making_opens_no_breaker(tmp_path: Path) -> None:
    async with upstream() as strict, pool(tmp_path, strict.url, failures=1) as home:
        strict.answers(refuses(400, {"error": {"message": "temperature must be at most 2"}}))
        for _ in range(3):
            with pytest.raises(openai.BadRequestError):
                await home.client().chat.completions.create(model=MODEL, messages=QUESTION)
        assert len(strict.asked) == 3


async def read(home: House) -> tuple[str, bool]:
    """A stream's text, and whether it ended by an error event."""
    text = ""
    try:
        async for part in await home.client().chat.completions.create(model=MODEL, messages=QUESTION, stream=True):
            text += part.choices[0].delta.content or ""
    except openai.APIError:
        return text, True
    return text, False


async def test_a_replica_that_goes_away_takes_only_its_own_streams_along(tmp_path: Path) -> None:
    async with upstream() as dying, upstream() as alive, pool(tmp_path, dying.url, alive.url) as home:
        gone = asyncio.Event()

        async def cut(exchange: Exchange) -> None:
            await exchange.head()
            await exchange.text(CUT)
            await gone.wait()
            exchange.cut()

        async def whole(exchange: Exchange) -> None:
            await exchange.head()
            await exchange.text(WHOLE)
            await gone.wait()
            await exchange.event(chunk({}, finish="stop"))
            await exchange.event("[DONE]")
            await exchange.end()

        dying.answers(cut)
        alive.answers(whole)
        streams = [asyncio.create_task(read(home)) for _ in range(20)]
        while len(dying.asked) + len(alive.asked) < 20:  # noqa: ASYNC110  # the fakes have no event for it
            await asyncio.sleep(0.01)
        gone.set()
        ended = await asyncio.gather(*streams)
        assert ended.count((WHOLE, False)) == len(alive.asked) == 10  # the less loaded of two: each has half
        assert ended.count((CUT, True)) == len(dying.asked) == 10
        assert home.outside.asked == []
        assert state(await shown(home, "/metrics"), 0) == 2


async def until(home: House, seen: Callable[[str], bool]) -> str:
    """The readiness as soon as something is to be seen in it."""
    while not seen(text := await shown(home, "/readyz")):
        pass
    return text


class Shows:
    """A model server whose metrics are `text`."""

    def __init__(self, text: str, status: int = 200, content_type: str = "text/plain; version=0.0.4") -> None:
        self.text, self.status, self.content_type = text, status, content_type

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", self.content_type.encode())]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        body = self.text.encode() if scope["path"] == "/metrics" else b"{}"
        await send({"type": "http.response.body", "body": body})


async def test_wrong_metric_names_are_noted_and_answers_go_on(tmp_path: Path) -> None:
    server = Shows(OLD)
    async with (
        serve(server, lifespan="off") as url,
        pool(tmp_path, f"{url}/v1", scrape_seconds=0.05, cool_down_seconds=1) as home,
    ):
        note = "no vllm:kv_cache_usage_perc among its metrics"
        ready = await until(home, lambda text: note in text)
        assert f'"notes":{{"metrics of local/0":"{note}"}}' in ready
        assert '"status":"ok"' in ready
        server.text = metrics()
        await until(home, lambda text: "notes" not in text)


@pytest.mark.parametrize(
    ("server", "text"),
    [
        (Shows("x 1\n"), "x 1\n"),
        (Shows("x 1\n", content_type="application/openmetrics-text; version=1.0.0"), "x 1\n"),
        (Shows("é"), "é"),
        (Shows("x 1\n", status=404), None),
        (Shows("{}", content_type="application/json"), None),
        (Shows("x" * (16 << 20)), None),
    ],
    ids=["text", "openmetrics", "not ASCII", "not found", "not metrics", "too large"],
)
async def test_metrics_are_text_of_a_bounded_size_or_nothing(server: Shows, text: str | None) -> None:
    async with serve(server, lifespan="off") as url, Client(Times(connect=1)) as client:
        assert await client.metrics(f"{url}/v1", within=5) == text


async def test_a_server_that_is_away_or_silent_has_no_metrics() -> None:
    async with upstream() as fake, Client(Times(connect=1)) as client:
        assert await client.metrics(CLOSED, within=1) is None
        assert await client.metrics(fake.url, within=0.000001) is None
