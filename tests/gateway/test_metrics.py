"""What is counted, under which labels; several workers: `test_metrics_of_workers`."""

import asyncio
from typing import Any

import aiohttp
import openai
import pytest

from gateway.exchange import Attempt, Exchange, Finding, Outcome, State
from gateway.metrics import Metrics
from tests.gateway.figures import Figures, scraped
from tests.house import MODEL, House, house
from tests.upstream import refuses, says

ENGLISH = says("This is an answer that nobody wanted in English. ", "You may follow your feedback there.")
FRENCH = says("Vous pouvez suivre votre avis sur cette page. ", "Merci de votre patience.")
QUESTION: list[Any] = [{"role": "user", "content": "Comment suivre mon avis ?"}]


def exchange(**fields: Any) -> Exchange:
    served = Attempt("local", firm=True, outcome=Outcome.SERVED, prompt_tokens=10, completion_tokens=5)
    drifted = Attempt(
        "local", firm=False, outcome=Outcome.DRIFTED, reason="language", prompt_tokens=9, completion_tokens=3
    )
    ended: dict[str, Any] = {"state": State.COMPLETED, "first_text": 100.2, "ended": 101.0, "model": "m", **fields}
    return Exchange("id", "req", 100.0, "acme", "alice", attempts=[drifted, served], **ended)


def metrics(*models: str) -> Metrics:
    made = Metrics()
    made.follow(dict.fromkeys(models, "local"), ["outside"])
    return made


def shown(made: Metrics) -> Figures:
    return Figures(made.render().decode())


def observed(*exchanges: Exchange) -> Figures:
    made = metrics("m")
    for one in exchanges:
        made.counts.observe(one)
    return shown(made)


def test_an_exchange_is_counted_once_in_every_metric() -> None:
    found = observed(exchange())
    assert found.of("chats_total", model="m", target="local", state="completed") == 1
    assert found.of("tokens_total", model="m", kind="prompt") == 19
    assert found.of("tokens_total", model="m", kind="completion") == 8
    assert found.of("repairs_total", model="m") == 1
    assert found.of("attempts_total") == 2
    assert found.of("attempts_total", target="local", outcome="drifted", reason="language") == 1
    assert found.of("chat_seconds_sum", model="m") == pytest.approx(1.0)
    assert found.of("first_text_seconds_sum", model="m") == pytest.approx(0.2)


async def test_what_ends_in_one_turn_is_counted_with_it_and_whoever_looks_first_sees_it() -> None:
    made = metrics("m")
    chats = {"model": "m", "target": "local", "state": "completed"}
    for _ in range(3):
        made.counts.observe(exchange())
    assert made.registry.get_sample_value("passerelle_chats_total", chats) == 0  # shown from now on
    await asyncio.sleep(0)
    assert made.registry.get_sample_value("passerelle_chats_total", chats) == 3
    made.counts.observe(exchange())
    assert shown(made).of("chats_total", **chats) == 4
    await asyncio.sleep(0)
    assert shown(made).of("chats_total", **chats) == 4


def test_names_that_callers_invent_do_not_become_labels() -> None:
    found = observed(*(exchange(model=f"invented-{number}") for number in range(100)))
    assert found.of("chats_total", model="unknown", target="local") == 100
    made = metrics("m")
    made.counts.answered("none", "BREW", 404, "not_found", None)
    assert shown(made).labels("http_requests_total", "method") == {"other"}
    row = {"target": "local", "model": "invented", "kind": "settle", "cost": "0.5", "avoided": "0", "busy_seconds": 0.1}
    made.counts.written([row])
    assert shown(made).labels("cost_total", "model") == {"unknown"}


def test_a_request_that_no_model_answered_is_counted_without_a_target() -> None:
    refused = exchange(state=State.REFUSED, first_text=None)
    refused.attempts.clear()
    found = observed(refused)
    assert found.of("chats_total", model="m", target="none", state="refused") == 1
    assert found.of("first_text_seconds_count") == found.of("language_answers_total") == 0


def test_the_time_between_tokens_is_the_mean_of_an_answer() -> None:
    one = exchange()
    one.attempts[1].heard(50.0)
    one.attempts[1].heard(50.4)
    found = observed(one)
    assert found.of("inter_token_seconds_count", model="m") == 1
    assert found.of("inter_token_seconds_sum", model="m") == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("reason", "word"),
    [
        (None, "none"),
        ("status 429", "status_429"),
        ("status 404", "status_4xx"),
        ("status 503", "status_5xx"),
        ("no answer within the first-content limit", "timeout"),
        ("silent for longer than the limit", "timeout"),
        ("not done within the total limit", "timeout"),
        ("cannot connect: ClientConnectorError", "connect"),
        ("connection closed before an answer", "connect"),
        ("cut before its end", "cut"),
        ("cut: ClientPayloadError", "cut"),
        ("broken exchange: ServerDisconnectedError", "cut"),
        ("malformed chunk", "malformed"),
        ("content type text/html instead of an event stream", "malformed"),
        ("language", "language"),
        ("context_length_exceeded", "refused"),
    ],
)
def test_reasons_of_failed_attempts_are_counted_under_few_words(reason: str | None, word: str) -> None:
    one = exchange()
    one.attempts[0].reason = reason
    one.attempts.pop()
    assert observed(one).labels("attempts_total", "reason") == {word}


@pytest.mark.parametrize(
    ("fields", "attempts", "word"),
    [
        ({"guards": {"language": Finding("passed")}}, 1, "french"),
        ({"guards": {"language": Finding("passed")}, "asked_language": True}, 1, "asked_for"),
        ({"guards": {"language": Finding("flagged")}}, 1, "foreign"),
        ({"guards": {"language": Finding("not_evaluated")}}, 1, "undecided"),
        ({"guards": {"language": Finding("off")}}, 1, "undecided"),
        ({"guards": {"language": Finding("modified")}}, 2, "repaired"),
        ({"guards": {"language": Finding("blocked")}, "blocked_by": "language"}, 2, "stopped"),
    ],
)
def test_what_became_of_an_answer_s_language(fields: dict[str, Any], attempts: int, word: str) -> None:
    one = exchange(**fields)
    one.attempts = one.attempts[-attempts:]
    assert observed(one).labels("language_answers_total", "verdict") == {word}


def test_an_answer_of_which_nothing_was_french_counts_as_refused() -> None:
    one = exchange(blocked_by="language", state=State.BLOCKED)
    one.attempts.pop()
    assert observed(one).labels("language_answers_total", "verdict") == {"refused"}


def test_an_answer_of_another_target_than_the_first_is_a_failover() -> None:
    one = exchange()
    one.attempts[1].target = "outside"
    found = observed(exchange(), one)
    assert found.of("failovers_total") == found.of("failovers_total", model="m", target="outside", outside="true") == 1


def test_the_state_of_each_replica_is_shown_as_it_is_when_asked() -> None:
    made, state = metrics(), {0: 0, 1: 2}
    for index in state:
        made.watch("local", index, lambda index=index: state[index])  # type: ignore[misc]
    assert shown(made).of("replica_state", target="local", replica="1") == 2
    state[1] = 1
    assert shown(made).of("replica_state", target="local", replica="1") == 1
    assert shown(made).of("replica_state", target="local", replica="0") == 0


def test_what_is_gone_from_the_catalogue_is_shown_no_more() -> None:
    made = metrics("m")
    made.watch("old", 0, lambda: 2)
    made.watch_probes("old", 0, lambda: True)
    made.follow({"n": "new"})
    made.watch("new", 0, lambda: 0)
    made.watch_probes("new", 0, lambda: True)
    for model in ("m", "n"):
        made.counts.observe(exchange(model=model))
    found = shown(made)
    assert found.labels("chats_total", "model") == {"unknown", "n"}
    assert found.of("replica_down", target="new") == 1
    assert found.labels("replica_state", "target") == {"new"}


def test_a_reload_that_is_refused_is_seen_until_one_is_done() -> None:
    made = metrics()
    loaded = shown(made).of("config_loaded_timestamp_seconds")
    made.reloaded(False)
    found = shown(made)
    assert (found.of("config_last_reload_successful"), found.of("config_reloads_total", result="refused")) == (0, 1)
    assert found.of("config_loaded_timestamp_seconds") == loaded
    made.reloaded(True)
    found = shown(made)
    assert (found.of("config_last_reload_successful"), found.of("config_reloads_total", result="ok")) == (1, 1)
    assert found.of("config_loaded_timestamp_seconds") >= loaded


async def asked(home: House, content: str = "Comment suivre mon avis ?", **more: Any) -> None:
    async with home.client() as client:
        await client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": content}], **more)


async def test_traffic_is_counted_by_route_status_and_what_refused_it(tmp_path: Any) -> None:
    limits = {"requests_per_minute": 1}
    async with house(tmp_path, limits=limits) as home:
        await asked(home)
        with pytest.raises(openai.RateLimitError):
            await asked(home)
        with pytest.raises(openai.PermissionDeniedError):
            await home.client(scopes=("usage",)).models.list()
        async with aiohttp.ClientSession() as session:
            for path in ("/v1/models/some/name", "/nowhere"):
                await session.get(f"{home.url}{path}")
        found = await scraped(home.url)
    chats = {"route": "/v1/chat/completions", "method": "POST"}
    assert found.of("http_requests_total", **chats, status="2xx") == 1
    assert found.of("http_requests_total", **chats, status="4xx") == 1
    assert found.of("http_requests_total", route="/v1/models/{name:path}", method="GET", status="4xx") == 1
    assert found.of("http_requests_total", route="none", method="GET", status="4xx") == 1
    codes = ("rate_limit_exceeded", "missing_scope", "invalid_api_key", "not_found")
    assert [found.of("errors_total", code=code) for code in codes] == [1, 1, 1, 1]
    assert found.of("limited_total") == found.of("limited_total", scope="user", measure="requests_per_minute") == 1


async def test_a_drift_its_repair_and_its_sentences_are_counted(home: House) -> None:
    home.local.answers(ENGLISH, FRENCH)
    await asked(home)
    home.local.answers(ENGLISH)
    home.outside.answers(ENGLISH)
    await asked(home)
    found = await scraped(home.url)
    assert found.of("language_answers_total", model=MODEL, verdict="repaired") == 1
    assert found.of("language_answers_total", model=MODEL, verdict="refused") == 1
    assert found.of("sentences_total", verdict="french") >= 1
    assert found.of("sentences_total", verdict="foreign") >= 4
    assert found.of("guard_verdicts_total", guard="language", verdict="blocked") == 1
    assert found.of("guard_seconds_total", guard="language") > 0


async def test_failures_and_the_fallback_are_counted_by_target(home: House) -> None:
    home.local.answers(refuses(503))
    await asked(home)
    found = await scraped(home.url)
    assert found.of("attempts_total", target="local", outcome="failed", reason="status_5xx") == 1
    assert found.of("attempts_total", target="outside", outcome="served", reason="none") == 1
    assert found.of("failovers_total", model=MODEL, target="outside", outside="true") == 1


@pytest.mark.parametrize("policy", ["mask", "pseudonymise"])
async def test_personal_data_is_counted_by_kind_once_a_request(tmp_path: Any, policy: str) -> None:
    own = "mask" if policy == "mask" else "allow"
    async with house(tmp_path, guards={"personal_data": {"own": own, "outside": policy, "answers": "mask"}}) as home:
        home.local.answers(refuses(503))
        home.outside.answers(says("Écrivez donc à jean.dupont@exemple.fr pour cela, c'est le plus simple."))
        await asked(home, "Mon adresse est marie.curie@exemple.fr : comment suivre mon avis ?")
        found = await scraped(home.url)
    assert found.of("personal_data_total", kind="EMAIL", place="request") == 1
    assert found.of("personal_data_total", kind="EMAIL", place="answer") == 1


async def test_money_and_machine_time_are_those_of_the_ledger(tmp_path: Any) -> None:
    targets = {
        "local": {"price_per_hour": "3600"},
        "outside": {"price": {"input": "500000", "output": "1000000"}},
    }
    async with house(tmp_path, targets=targets, money={"reference": "outside"}) as home:
        await asked(home, extra_headers={"x-request-id": "one"})
        (row,) = [row for row in await home.ledger("one") if row["kind"] == "settle"]
        found = await scraped(home.url)
    assert found.of("cost_total", model=MODEL, target="local", kind="settle") == pytest.approx(float(row["cost"]))
    assert found.of("cost_avoided_total", model=MODEL, target="local") == 7 * 0.5 + 2 * 1
    assert found.of("busy_seconds_total", target="local") == pytest.approx(row["busy_seconds"])
    assert row["busy_seconds"] > 0


async def test_what_the_gateway_needs_and_what_waits_is_shown(home: House) -> None:
    found = await scraped(home.url)
    assert found.of("dependency_up", dependency="database") == 1
    assert found.labels("dependency_up", "dependency") == {"database"}
    assert found.of("workers") == 1
    assert found.of("resident_memory_bytes") > 10e6
    assert "passerelle_ledger_journal_bytes" in found.names()
    assert found.labels("build_info", "version") == {"0.1.0"}


async def test_with_a_token_nobody_else_sees_the_figures(tmp_path: Any) -> None:
    async with (
        house(tmp_path, server={"metrics_token": "un-jeton-assez-long"}) as home,
        aiohttp.ClientSession() as session,
    ):
        for given, status in ((None, 401), ("Bearer faux", 401), (f"Bearer {home.token()}", 401)):
            headers = {} if given is None else {"authorization": given}
            async with session.get(f"{home.url}/metrics", headers=headers) as answer:
                assert (answer.status, "passerelle_" in await answer.text()) == (status, False)
        async with session.get(
            f"{home.url}/metrics", headers={"authorization": "Bearer un-jeton-assez-long"}
        ) as answer:
            assert answer.status == 200
