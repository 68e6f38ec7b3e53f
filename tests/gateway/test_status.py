"""`/admin/status` of real gateways: requests, limits, queues and replicas, of every worker, and of one's own tenant alone."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from openai import AsyncOpenAI

from auth.principal import HOUSE, OPERATE, SCOPES_OF_ROLE, TENANTS, scopes_of
from auth.signing import keys_from_folder
from auth.tokens import Tokens
from gateway.bounds import Limits
from gateway.exchange import Exchange as Record
from gateway.limits.checks import Check
from gateway.limits.memory import Memory
from gateway.limits.policy import Policy
from gateway.limits.quotas import Quotas
from gateway.live import Live
from gateway.routing import Catalogue
from gateway.settings import Settings
from gateway.siblings import Siblings
from gateway.status.report import LIMITS, REQUESTS, Limit, Running, longest, nearest
from gateway.status.worker import Statuses
from tests.gateway.test_hangup import Gateway, started
from tests.house import MODEL, House, house
from tests.upstream import Exchange, chunk, refuses, says, upstream, usage

SECRET = "mot-de-passe-du-coffre"
ROOT: dict[str, Any] = {"subject": "root", "tenant": HOUSE, "scopes": scopes_of("operator", HOUSE)}
FRENCH = "Voici une phrase tout à fait française, qui dit ce qui est. "
LOOSE: dict[str, Any] = {"first_content": 20, "idle": 20}


class Held:
    """A model server's answer that stops after three sentences until it is let go."""

    def __init__(self) -> None:
        self.begun, self.go = asyncio.Semaphore(0), asyncio.Event()

    async def __call__(self, exchange: Exchange) -> None:
        await exchange.head()
        await exchange.text(*[FRENCH] * 3)
        self.begun.release()
        await self.go.wait()
        await exchange.event(chunk({}, finish="stop"))
        await exchange.event(usage(7, 30))
        await exchange.event("[DONE]")
        await exchange.end()


async def status(url: str, token: str, **query: str) -> Any:
    headers = {"authorization": f"Bearer {token}"}
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{url}/admin/status", headers=headers, params=query) as answer,
    ):
        assert answer.status == 200, await answer.text()
        return await answer.json()


async def ask(client: AsyncOpenAI, model: str = MODEL, **more: Any) -> str:
    messages: Any = [{"role": "user", "content": f"Bonjour, voici {SECRET}"}]
    answer = await client.chat.completions.create(model=model, messages=messages, **more)
    return answer.choices[0].message.content or ""


@asynccontextmanager
async def under_way(held: Held, asks: Sequence[Any]) -> AsyncIterator[list[asyncio.Task[Any]]]:
    """So many requests, each of which a model has begun to answer; let go and answered at the end."""
    tasks = [asyncio.create_task(one) for one in asks]
    try:
        async with asyncio.timeout(20):
            for _ in tasks:
                await held.begun.acquire()
        yield tasks
    finally:  # also where a test fails: a task that nobody waits for would fail the next one
        held.go.set()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
    assert [each for each in ended if isinstance(each, BaseException)] == []


@pytest.fixture(params=["memory", "redis"])
def redis(request: pytest.FixtureRequest) -> dict[str, Any]:
    """The settings of where limits are counted."""
    if request.param == "memory":
        return {}
    return {"redis_url": request.getfixturevalue("redis_url"), "redis_prefix": secrets.token_hex(6)}


async def test_what_a_gateway_does_is_told_and_nothing_of_what_is_said(
    tmp_path: Path, database_url: str, redis: dict[str, Any]
) -> None:
    limits = {"requests_per_minute": 10, "tenant": {"tokens_per_day": 100_000}}
    state = {"database_url": database_url, **redis}
    async with house(tmp_path, limits=limits, times=LOOSE, state=state) as home:
        held = Held()
        home.local.answers(held)
        root = home.token(**ROOT)
        async with under_way(held, [ask(home.client())]):
            told = await status(home.url, root)
            (request,) = told["requests"]
            assert request.pop("request_id").startswith("req_")
            assert 0 < request.pop("seconds") < 20
            assert request == {
                "tenant": "acme", "model": MODEL, "target": "local", "replica": 0, "state": "asked", "tokens": 3,
            }  # fmt: skip
            (local, _) = told["installation"]["targets"]
            assert (local["name"], local["models"], local["in_flight"], local["waiting"]) == ("local", [MODEL], 1, 0)
            assert local["places"] == 256
            (replica,) = local["replicas"]
            assert (replica["breaker"], replica["in_flight"]) == ("closed", 1)
            assert replica["address"] == home.local.url.removeprefix("http://")
            rows = {(row["scope"], row["measure"]): row for row in told["limits"]}
            of_user = rows["user", "requests_per_minute"]
            assert (of_user["name"], of_user["tenant"], of_user["limit"]) == ("alice", "acme", 10)
            assert of_user["used"] == pytest.approx(1, abs=0.5)
            assert rows["tenant", "tokens_per_day"]["used"] > 0  # reserved
        after = await status(home.url, root)
        assert (after["in_flight"], after["requests"]) == (0, [])
        counts = after["installation"]["counts"]
        assert (counts["requests"], counts["french"], counts["tokens"], sum(counts["first_text"])) == (1, 1, 30, 1)
        assert counts["errors"] == counts["refusals"] == 0
        assert SECRET not in str(told) + str(after)
        assert "française" not in str(told) + str(after)


async def test_refusals_and_errors_are_counted(tmp_path: Path) -> None:
    async with house(tmp_path, models={MODEL: {"targets": ["local"]}}) as home:
        home.local.answers(refuses(500, {}))
        client = home.client()
        for model in (MODEL, "nothing"):
            with pytest.raises(Exception, match=r"Error code: (404|502)"):
                await ask(client, model)
        counts = (await status(home.url, home.token(**ROOT)))["installation"]["counts"]
        assert (counts["requests"], counts["errors"], counts["refusals"]) == (2, 1, 1)


async def test_a_model_s_name_that_is_not_published_is_the_caller_s_words_and_not_shown(tmp_path: Path) -> None:
    async def nothing(_: Check) -> int:
        return 0

    live, target = Live(), {"kind": "vllm", "urls": ["http://127.0.0.1:1/v1"], "model": "m"}
    settings = Settings.model_validate({"targets": {"local": target}, "models": {"m": {"targets": ["local"]}}})
    quotas = Quotas(Memory(), Policy(Limits()), nothing)
    statuses = Statuses(Catalogue(settings), live, quotas, Siblings(tmp_path), lambda _: False)
    with live.follow(Record("1", "req_1", 0.0, "acme", "alice", model=SECRET)):
        told = await statuses.make(None, whole=True)
    with live.follow(Record("2", "req_2", 0.0, "acme", "alice", model="m")):
        known = await statuses.make(None, whole=True)
    assert [one.model for one in (*told.requests, *known.requests)] == ["unknown", "m"]


async def test_a_tenant_s_operator_sees_that_tenant_and_nothing_else(tmp_path: Path) -> None:
    limits = {"requests_per_minute": 10, "address": {"requests_per_minute": 100}, "model": {"concurrent": 9}}
    async with house(tmp_path, limits=limits, times=LOOSE) as home:
        held = Held()
        home.local.answers(held)
        mine = {"scopes": SCOPES_OF_ROLE["operator"]}
        clients = [home.client(subject=f"user-of-{tenant}", tenant=tenant) for tenant in ("acme", "globex")]
        async with under_way(held, [ask(client) for client in clients]):
            told = await status(home.url, home.token("op", tenant="acme", **mine))
            assert (told["tenant"], told["in_flight"], told["installation"]) == ("acme", 1, None)
            assert [request["tenant"] for request in told["requests"]] == ["acme"]
            assert {(row["scope"], row["name"]) for row in told["limits"]} == {("user", "user-of-acme")}
            assert "globex" not in str(told)
            assert home.local.url.removeprefix("http://") not in str(told)
            every = await status(home.url, home.token(**ROOT))
            assert {row["scope"] for row in every["limits"]} == {"user", "address", "model"}
            assert {row["tenant"] for row in every["limits"] if row["scope"] != "user"} == {None}
            assert every["in_flight"] == 2
            one = await status(home.url, home.token(**ROOT), tenant="globex")
            assert [request["tenant"] for request in one["requests"]] == ["globex"]
            assert {row["name"] for row in one["limits"]} == {"user-of-globex"}
            assert one["installation"] is not None


async def test_another_tenant_s_status_is_refused_whether_it_exists_or_not(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        await ask(home.client(tenant="globex"))
        headers = {"authorization": f"Bearer {home.token(tenant='acme', scopes={OPERATE})}"}
        answers = []
        for tenant in ("globex", "initech"):
            async with (
                aiohttp.ClientSession(headers=headers) as session,
                session.get(f"{home.url}/admin/status", params={"tenant": tenant}) as answer,
            ):
                answers.append((answer.status, await answer.json()))
        assert answers[0] == answers[1]
        assert answers[0][0] == 403


async def test_the_scope_tenants_alone_shows_nothing(home: House) -> None:
    headers = {"authorization": f"Bearer {home.token(tenant=HOUSE, scopes={TENANTS})}"}
    async with aiohttp.ClientSession() as session, session.get(f"{home.url}/admin/status", headers=headers) as answer:
        assert answer.status == 403


async def test_requests_that_wait_for_a_place_are_seen_to_wait(tmp_path: Path) -> None:
    one_place = {"local": {"concurrency": 1}}
    async with house(tmp_path, times=LOOSE, targets=one_place, models={MODEL: {"targets": ["local"]}}) as home:
        held = Held()
        home.local.answers(held, says(FRENCH))
        async with under_way(held, [ask(home.client())]):
            second = asyncio.create_task(ask(home.client()))
            token = home.token(**ROOT)
            async with asyncio.timeout(10):
                while (told := await status(home.url, token))["installation"]["targets"][0]["waiting"] == 0:  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
            (local, _) = told["installation"]["targets"]
            assert (local["in_flight"], local["waiting"], local["places"]) == (1, 1, 1)
            states = [(request["state"], request["target"]) for request in told["requests"]]
            assert states == [("asked", "local"), ("waiting", None)]
        await second


async def test_a_replica_that_fails_is_shown_open_and_redis_away_as_degraded(tmp_path: Path) -> None:
    state = {"redis_url": "redis://127.0.0.1:1"}
    routing = {"failures": 1, "cool_down_seconds": 60}
    async with house(tmp_path, state=state, routing=routing, limits={"requests_per_minute": 10}) as home:
        home.local.answers(refuses(500, {}))
        await ask(home.client())
        told = (await status(home.url, home.token(**ROOT)))["installation"]
        breakers = {target["name"]: target["replicas"][0]["breaker"] for target in told["targets"]}
        assert breakers == {"local": "open", "outside": "closed"}
        assert told["targets"][1]["replicas"][0]["down"] is None  # nobody probes it
        assert "limits" in told["degraded"]


def token_of(gateway: Gateway, subject: str, scopes: Any, tenant: str) -> str:
    keys = keys_from_folder(gateway.folder / "signing-keys")
    return Tokens(keys, "passerelle", "passerelle").issue(subject, scopes, tenant)


async def test_one_answer_is_about_all_workers_whichever_gives_it(tmp_path: Path) -> None:
    held = Held()
    async with upstream() as model, started(tmp_path, 2, model.url) as gateway:
        model.answers(held)
        await gateway.logged("Application startup complete", 2)
        url, root = f"http://127.0.0.1:{gateway.port}", token_of(gateway, "root", scopes_of("operator", HOUSE), HOUSE)
        async with under_way(held, [gateway.answer() for _ in range(12)]):
            seen: list[Any] = []
            async with asyncio.timeout(20):
                while len({told["installation"]["workers"][0]["pid"] for told in seen}) < 2:  # both are to answer
                    seen += await asyncio.gather(*(status(url, root) for _ in range(12)))
            by_worker: dict[int, int] = {}
            for told in seen:
                assert told["in_flight"] == len(told["requests"]) == 12
                (local,) = told["installation"]["targets"]
                assert (local["in_flight"], local["places"], local["replicas"][0]["in_flight"]) == (12, 256, 12)
                workers = told["installation"]["workers"]
                assert told["installation"]["silent"] == 0
                by_worker |= {worker["pid"]: worker["in_flight"] for worker in workers}
                assert len(workers) == 2
            assert len(by_worker) == 2
            assert sum(by_worker.values()) == 12
        told = (await status(url, root))["installation"]
        assert (told["counts"]["requests"], told["counts"]["tokens"]) == (12, 12 * 30)
        assert told["minute"] == {"french": 12, "repaired": 0, "not_french": 0, "foreign": 0}
    assert list((tmp_path / "workers").iterdir()) == []


def running(number: int) -> Running:
    return Running(
        request_id=str(number),
        tenant="t",
        model="m",
        target=None,
        replica=None,
        state="asked",
        seconds=number,
        tokens=0,
    )


def limit(number: int, used: float, tenant: str = "t") -> Limit:
    return Limit(
        scope="user",
        name=str(number),
        tenant=tenant,
        measure="concurrent",
        limit=1000,
        used=used,
        unit="requests",
        until=None,
    )


def test_of_many_requests_the_longest_are_listed_and_of_limits_the_nearest() -> None:
    assert [one.seconds for one in longest(map(running, range(1000)))] == list(range(999, 999 - REQUESTS, -1))
    listed = nearest(limit(number % 700, used=number) for number in range(1000))
    assert [one.used for one in listed] == list(range(999, 999 - LIMITS, -1))
    assert [one.used for one in nearest([limit(1, 5), limit(1, 9), limit(1, 7)])] == [9]
    of_two_tenants = [limit(1, 5, "acme"), limit(1, 9, "globex")]
    assert {one.tenant for one in nearest(of_two_tenants)} == {"acme", "globex"}
