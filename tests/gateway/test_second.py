"""The second look at doubtful texts: when it is taken, that others go on meanwhile, and what happens without it."""

import math
from pathlib import Path
from threading import Event, Semaphore
from typing import Any
from unittest.mock import ANY

import msgspec
import pytest

from gateway.exchange import Finding
from gateway.fail_policy import FailPolicy
from gateway.guard_settings import Guards as GuardSettings
from gateway.guardrails import classifier as classifier_module
from gateway.guardrails.aside import Aside
from gateway.guardrails.classifier import Classifier, Look, Model, Weights, read
from gateway.guardrails.guards import MODELS, Guards
from gateway.guardrails.inspection import Inspection
from gateway.guardrails.second import embedder, installed, probability
from tests.gateway.requests import request

PLAIN = "Comment suivre mon avis sur la plateforme ?"


def shipped(name: str) -> Model[Weights]:
    return read(MODELS / f"{name}.json", Model[Weights])


def doubtful(name: str, since: float, until: float) -> Classifier:
    """The shipped model, which hesitates between other scores."""
    model = shipped(name)
    assert model.second is not None
    return Classifier(
        msgspec.structs.replace(model, second=msgspec.structs.replace(model.second, since=since, until=until))
    )


@pytest.mark.parametrize("name", ["injection", "moderation", "distress"])
def test_the_thresholds_are_those_that_the_document_names(name: str) -> None:
    model = shipped(name)
    assert model.second is not None
    row = f"| `{name}` | {model.second.high} | {model.high} |"
    assert row in (Path(__file__).parents[2] / "docs" / "guards.md").read_text(encoding="utf-8")


def test_the_package_is_there_where_the_tests_run() -> None:
    assert installed()


def test_a_vector_has_length_one_and_is_the_same_each_time() -> None:
    first, again = embedder().vector(PLAIN), embedder().vector(PLAIN)
    assert first.shape == (384,)
    assert math.isclose(float(first @ first), 1.0, abs_tol=1e-3)
    assert (first == again).all()


@pytest.mark.parametrize("text", ["", "\0", "\ud800 seul", "x" * 100_000, "🙂" * 700])
def test_any_text_has_a_score(text: str) -> None:
    assert 0.0 <= doubtful("injection", 0.0, 1.1).score(text) <= 1.0


@pytest.mark.parametrize("name", ["injection", "moderation", "distress"])
def test_it_is_taken_only_between_the_two_scores(name: str) -> None:
    never, always = doubtful(name, 2.0, 2.0), doubtful(name, 0.0, 1.1)
    look = never.look(PLAIN)
    assert not never.hesitates(look)
    assert never.settle(look) == probability(look.logit)
    assert always.hesitates(look)
    assert always.settle(look) != probability(look.logit)


def test_without_the_package_the_first_look_decides_by_thresholds_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classifier_module, "installed", lambda: False)
    model = shipped("injection")
    alone = Classifier(model)
    assert (alone.high, alone.low) == (model.high, model.low)
    assert not alone.hesitates(alone.look(PLAIN))
    assert model.second is not None
    monkeypatch.undo()
    both = Classifier(model)
    assert (both.high, both.low) == (model.second.high, model.second.low)


def test_a_request_that_needs_one_is_looked_at_in_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    def inspected(**fields: Any) -> Inspection:
        return Inspection(Guards(GuardSettings()).of(), request(**fields))

    assert not inspected().takes_time()
    assert inspected(messages=[{"role": "user", "content": "mot " * 5000}]).takes_time()
    monkeypatch.setattr(Classifier, "hesitates", lambda *_: True)
    assert inspected().takes_time()
    assert not inspected(messages=[{"role": "system", "content": PLAIN}]).takes_time()


def annotating(policy: FailPolicy | None = None, **fields: Any) -> Inspection:
    tables = {guard: {"mode": "annotate"} for guard in ("injection", "moderation", "distress")}
    return Inspection(Guards(GuardSettings.model_validate(tables), policy).of(), request(**fields))


def test_nobody_waits_for_the_second_look_of_a_guard_that_only_annotates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Classifier, "hesitates", lambda *_: True)
    looked: list[Look] = []

    def settle(_: Classifier, look: Look) -> float:
        looked.append(look)
        return 1.0

    monkeypatch.setattr(Classifier, "settle", settle)
    inspection = annotating()
    assert not inspection.takes_time()
    inspection.admit()
    assert not looked
    assert inspection.unsure
    assert {inspection.findings[guard].verdict for guard in ("injection", "moderation", "distress")} == {"passed"}
    inspection.look_again()
    assert len(looked) == 3
    assert {inspection.audit(())[guard].verdict for guard in ("injection", "moderation", "distress")} == {"flagged"}


def test_a_request_of_many_doubtful_texts_keeps_its_first_findings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Classifier, "hesitates", lambda *_: True)
    many = [{"role": role, "content": f"{PLAIN} {turn}"} for turn in range(9) for role in ("user", "assistant")]
    inspection = annotating(messages=many)
    inspection.admit()
    assert "injection" not in inspection._again
    assert inspection.findings["injection"].verdict == "passed"


def test_a_judge_is_asked_after_the_second_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Classifier, "hesitates", lambda *_: True)
    tables = {"moderation": {"mode": "annotate", "judge": "local"}}
    assert Inspection(Guards(GuardSettings.model_validate(tables)).of(), request()).takes_time()


def test_what_has_no_doubt_needs_no_second_look() -> None:
    inspection = annotating()
    inspection.admit()
    assert not inspection.unsure


def test_where_a_guard_that_fails_refuses_its_second_look_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Classifier, "hesitates", lambda *_: True)
    inspection = annotating(FailPolicy(annotating_guards="closed"))
    assert inspection.takes_time()
    inspection.admit()
    assert not inspection.unsure


def test_a_second_look_that_fails_leaves_the_guard_not_evaluated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Classifier, "hesitates", lambda *_: True)
    inspection = annotating()
    inspection.admit()
    monkeypatch.setattr(Classifier, "settle", lambda *_: 1 / 0)
    inspection.look_again()
    assert inspection.findings["injection"] == Finding("not_evaluated", "ZeroDivisionError", ANY)


def test_second_looks_stand_in_a_short_line_and_the_rest_is_let_be() -> None:
    go_on, done = Event(), Semaphore(0)

    def look() -> None:
        go_on.wait(10)
        done.release()

    aside = Aside(most=3)
    assert [aside.do(look) for _ in range(5)] == [True, True, True, False, False]
    go_on.set()
    assert all(done.acquire(timeout=10) for _ in range(3))
    assert aside.do(look)  # the one that was first has ended by now
    assert done.acquire(timeout=10)
