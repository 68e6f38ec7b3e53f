"""Both official SDKs, one list of behaviours: what a developer sees is the same, and it is what OpenAI's service gives."""

import asyncio
from dataclasses import replace

import pytest

from tests.contract.answers import MODELS, PLAIN, STREAMS
from tests.contract.calls import Call, Sdk, Seen
from tests.contract.failures import REFUSED, UPSTREAM, never_ends
from tests.contract.other_paths import COMPLETIONS, EMBEDDINGS, completion, embedding
from tests.contract.scenario import TERM, Scenario, chat, summary
from tests.house import House

SCENARIOS = [*PLAIN, *STREAMS, *MODELS, *REFUSED, *UPSTREAM, *COMPLETIONS, *EMBEDDINGS]


def placed(call: Call, home: House, key: str | None = None) -> Call:
    """A call to this gateway."""
    return replace(call, base_url=f"{home.url}/v1", api_key=home.token() if key is None else key)


def request_ids(seen: Seen) -> set[str]:
    """The id of the request wherever the library shows it: at the answer, at the error, or at both."""
    told = (seen.error or {}).get("request_id")
    return {shown for shown in (seen.request_id, told) if shown}


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.behaviour)
async def test_each_sdk_sees_that(sdk: Sdk, scenario: Scenario, home: House) -> None:
    home.local.answers(*scenario.local)
    home.outside.answers(*scenario.outside)
    async with sdk(placed(scenario.call, home, scenario.key(home))) as seen:
        assert summary(seen) == scenario.expects
        assert seen.error is None or seen.error["message"]
    for name, value in scenario.asked.items():
        assert home.local.asked[0].body[name] == value
    if scenario.call.method != "chat.completions.stream":  # the accumulators show no id
        assert len(request_ids(seen)) == 1
        asked = [*home.local.asked, *home.outside.asked][-1:]
        assert [exchange.headers["x-request-id"] for exchange in asked] in ([], list(request_ids(seen)))


@pytest.mark.parametrize(
    ("call", "param"),
    [(completion(prompt=f"Dis {TERM}"), "prompt"), (embedding(input=f"Dis {TERM}"), "input")],
    ids=["completions", "embeddings"],
)
async def test_a_forbidden_term_reaches_no_model_on_any_path(sdk: Sdk, call: Call, param: str, home: House) -> None:
    async with sdk(placed(call, home)) as seen:
        assert seen.error is not None
        assert (seen.error["class"], seen.error["code"]) == ("BadRequestError", "content_policy_violation")
        assert seen.error["param"] == param
    assert home.local.asked == home.outside.asked == []


async def test_a_stream_that_is_left_ends_the_model_server_s_work_within_a_second(sdk: Sdk, home: House) -> None:
    home.local.answers(never_ends)
    async with sdk(placed(chat(stream=True, leave_after=2), home)) as seen, asyncio.timeout(1):
        assert (len(seen.chunks), seen.error) == (2, None)
        await home.local.asked[0].closed.wait()
