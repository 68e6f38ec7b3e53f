"""What is delivered is French: counted by the evaluation, and held on a real model that drifts to English."""

from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

import pytest

from evaluation.delivered import CLOSING, QUESTIONS, Delivered, asked, cut, main, summed, table
from gateway import wording
from gateway.guardrails.language import Detector
from serving.plan import Options
from serving.prepare import prepare
from serving.server import ModelServer
from tests.house import house
from tests.vllm_server import free_port

FR = "Votre avis est lu par les équipes concernées dans la semaine qui suit son envoi."
EN = "Your feedback is read by the teams in charge within the week after you have sent it."
DETECTOR = Detector()


def answer(text: str, finish: str = "stop", repairs: int = 0) -> Delivered:
    return Delivered("?", text, finish, repairs)


def test_the_closing_is_the_gateway_s_own() -> None:
    assert wording.CLOSING.endswith(CLOSING)
    assert not wording.REFUSAL.endswith(CLOSING)


def test_sentences_and_what_became_of_answers_are_counted() -> None:
    answers = [
        answer(f"{FR} Oui. {FR}"),
        answer(FR, repairs=1),
        answer(f"{FR} {EN}"),
        answer(wording.REFUSAL, "content_filter", 3),
        answer(f"{FR}{wording.CLOSING}", "content_filter", 2),
    ]
    summary = summed(DETECTOR, answers)
    assert (summary.french.passed, summary.french.judged) == (8, 9)
    assert summary.short == 1
    assert summary.foreign == [EN]
    assert [rate.passed for rate in (summary.whole, summary.repaired, summary.refused, summary.ended_early)] == [
        2,
        1,
        1,
        1,
    ]
    assert "8 of 9" in table(summary)


@pytest.mark.parametrize(("text", "count"), [("", 0), (" \n", 0), ("Oui.", 1), (f"{FR} {FR}", 2), (f"{FR}\n- {FR}", 2)])
def test_a_text_is_cut_into_sentences(text: str, count: int) -> None:
    assert len(list(cut(text))) == count
    assert "".join("".join(cut(text)).split()) == "".join(text.split())


def test_a_key_is_needed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("PASSERELLE_KEY", raising=False)
    assert main(["--model", "m"]) == 1
    assert "PASSERELLE_KEY" in capsys.readouterr().err


@pytest.fixture(scope="module")
def drifting(vllm_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelServer]:
    """Real vLLM with the embedded model that drifts to English by itself."""
    options = Options(model="smollm2-135m-instruct", cpu=True, port=free_port(), vllm_python=vllm_python)
    with ModelServer(
        prepare(options, print), log=tmp_path_factory.mktemp("logs") / "vllm.log", progress=print
    ) as server:
        yield server


@pytest.mark.vllm
@pytest.mark.timeout(500)
async def test_every_sentence_that_a_drifting_model_gets_delivered_is_french(
    tmp_path: Path, drifting: ModelServer
) -> None:
    # Hot and without any steering, so that it leaves French often enough for the guards to have something to do.
    target = {
        "kind": "vllm",
        "urls": [drifting.base_url],
        "model": drifting.served_name,
        "api_key_env": None,
        "defaults": {**drifting.defaults, "temperature": 1.0},
        "steering": {"instruction": False},
    }
    models = {drifting.served_name: {"targets": ["local"]}}
    times = {"first_content": 120, "idle": 60, "total": 300}
    async with house(tmp_path, targets={"local": target}, models=models, times=times) as home:
        options = Namespace(
            base_url=f"{home.url}/v1",
            key=home.token(),
            model=drifting.served_name,
            questions=QUESTIONS,
            limit=24,
            at_once=8,
            max_tokens=96,
            temperature=None,
        )
        answers = await asked(options)
    summary = summed(DETECTOR, answers)
    assert summary.foreign == []
    assert summary.french.judged >= 24
    assert summary.whole.passed < 24  # it did leave French
