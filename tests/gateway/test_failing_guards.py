"""A guard that raises or takes too long: what it should have checked is refused, or let through, as the policy says."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import GuardUnavailable
from gateway.fail_policy import FailPolicy
from gateway.guard_settings import Guards as GuardSettings
from gateway.guardrails import guards as guards_module
from gateway.guardrails.drift import LanguageStage
from gateway.guardrails.gate import Failsafe, GuardFailed
from gateway.guardrails.guards import Guards
from gateway.guardrails.inspection import Inspection
from gateway.guardrails.language import Detector, Verdict
from gateway.guardrails.terms import Terms
from tests.gateway.requests import request
from tests.house import MODEL, House, house
from tests.upstream import says

FR = "Voici une réponse tout à fait française. "
FAULT = "Une phrase sur laquelle le détecteur tombe en panne. "
QUESTION: list[Any] = [{"role": "user", "content": "Comment suivre mon avis ?"}]


class Faulty(Detector):
    """Fails on one sentence."""

    def judge(self, text: str, allowed: frozenset[str] = frozenset()) -> Verdict:
        if "panne" in text:
            raise ZeroDivisionError
        return super().judge(text, allowed)


@pytest.fixture(autouse=True)
def faulty(monkeypatch: pytest.MonkeyPatch) -> None:
    """The detector is the project's own; only its failing has to be made."""
    monkeypatch.setattr(guards_module, "Detector", Faulty)


def settings(mode: str) -> GuardSettings:
    return GuardSettings.model_validate({"language": {"mode": mode}, "terms": {"mode": mode, "terms": ["zorglub"]}})


async def answered(home: House, *, stream: bool) -> tuple[str, str | None, dict[str, str]]:
    """The text, the finish and the headers."""
    raw = await home.client(may_leave=False).chat.completions.with_raw_response.create(
        model=MODEL, messages=QUESTION, stream=stream
    )
    parsed: Any = raw.parse()
    if not stream:
        choice = parsed.choices[0]
        return choice.message.content or "", choice.finish_reason, dict(raw.headers)
    text, finish = "", None
    async for chunk in parsed:
        text += chunk.choices[0].delta.content or ""
        finish = chunk.choices[0].finish_reason or finish
    return text, finish, dict(raw.headers)


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
@pytest.mark.parametrize("before", [0, 2])
async def test_nothing_leaves_that_an_enforcing_guard_has_not_checked(
    tmp_path: Path, stream: bool, before: int
) -> None:
    async with house(tmp_path) as home:
        home.local.answers(says(*[FR] * before, FAULT, FR))
        text, finish, headers = await answered(home, stream=stream)
        metrics = await figures(home)
        _, _, later = await answered(home, stream=False)
    assert FAULT.strip() not in text
    assert text.startswith((FR * before).strip() if before else "Je suis désolé : ma réponse ne peut pas être vérifiée")
    assert text.endswith("ne peut pas être vérifiée pour le moment." if before else "réessayer dans un instant.")
    assert finish == "content_filter"
    assert 'passerelle_degraded{part="guards"} 1.0' in metrics
    assert later["x-passerelle-degraded"] == "guards"
    if not stream:
        assert "language=blocked" in headers["x-passerelle-guards"]


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
async def test_an_annotating_guard_that_fails_lets_all_through_and_says_that_it_judged_nothing(
    tmp_path: Path, stream: bool
) -> None:
    async with house(tmp_path, guards={"language": {"mode": "annotate"}}) as home:
        home.local.answers(says(FR, FAULT, FR))
        raw = await home.client().chat.completions.with_raw_response.create(
            model=MODEL, messages=QUESTION, stream=stream
        )
        parsed: Any = raw.parse()
        if stream:
            async for _ in parsed:
                pass
        else:
            assert parsed.choices[0].message.content == FR + FAULT + FR
            assert "language=not_evaluated" in raw.headers["x-passerelle-guards"]
        (row,) = await home.ledger(raw.headers["x-request-id"])
    assert "language=not_evaluated" in row["guards"]
    assert row["state"] == "completed"


async def test_the_policy_may_be_the_other_way_round(tmp_path: Path) -> None:
    policy = {"enforcing_guards": "open", "annotating_guards": "closed"}
    async with house(tmp_path / "a", fail_policy=policy) as home:
        home.local.answers(says(FR, FAULT, FR))
        text, finish, _ = await answered(home, stream=True)
        assert (text, finish) == (FR + FAULT + FR, "stop")
    async with house(tmp_path / "b", fail_policy=policy, guards={"language": {"mode": "annotate"}}) as home:
        home.local.answers(says(FR, FAULT, FR))
        text, finish, _ = await answered(home, stream=True)
        assert (FAULT in text, finish) == (False, "content_filter")


async def figures(home: House) -> str:
    async with aiohttp.ClientSession() as session, session.get(f"{home.url}/metrics") as answer:
        return await answer.text()


def broken(*_: object) -> bool:
    raise RuntimeError


async def test_a_request_that_nobody_can_check_is_not_let_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with house(tmp_path, guards={"terms": {"terms": ["zorglub"]}}) as home:
        monkeypatch.setattr(Terms, "found", broken)
        with pytest.raises(openai.InternalServerError) as caught:
            await answered(home, stream=False)
        error = caught.value
        assert (error.status_code, error.code) == (503, "guard_unavailable")
        assert "ne peut pas être vérifiée" in str(error)
        assert error.response.headers["retry-after"] == "5"
        assert home.local.asked == []


def inspected(policy: FailPolicy | None = None, failed: Callable[[str], None] | None = None) -> Inspection:
    return Inspection(Guards(settings("enforce"), policy, failed).of(), request())


def test_or_it_is_if_that_is_the_policy(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[str] = []
    monkeypatch.setattr(Terms, "found", broken)
    inspected(FailPolicy(enforcing_guards="open"), heard.append).admit()
    assert heard == ["terms"]
    with pytest.raises(GuardUnavailable):
        inspected().admit()


def test_a_guard_that_takes_too_long_has_failed() -> None:
    instant = FailPolicy(guard_seconds=1e-9)
    with pytest.raises(GuardUnavailable):
        inspected(instant).admit()
    gate = Guards(settings("enforce"), instant).of().gate()
    with pytest.raises(GuardFailed) as caught:
        gate.feed(FR)
    assert caught.value.guard == "language"
    assert gate.guards["language"].failed


PIECES = st.lists(st.sampled_from([FR, FAULT, "Merci ", "bien. ", "Une fin sans point"]), max_size=12)


@given(PIECES, st.booleans())
def test_an_open_failsafe_loses_and_repeats_nothing(pieces: list[str], enforce: bool) -> None:
    stage = LanguageStage(Faulty(), hold=400, enforce=enforce)
    safe = Failsafe("language", stage, open_=True, seconds=60, told=lambda *_: None)
    released = "".join(safe.feed(piece) for piece in pieces) + safe.finish()
    assert released == "".join(pieces)
