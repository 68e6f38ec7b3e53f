"""The harness against a scripted model server: what is asked with each measure, and what is said of the answers."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from evaluation.french import judge
from evaluation.steering import ALL, Answer, against, main, parser, read_questions, table
from gateway.guardrails.language import Detector, Verdict
from gateway.steering import INSTRUCTION, OPENING, english_tokens, logit_bias
from gateway.tokenizer import load
from serving.measure import read_questions as others
from tests.gateway import vocabularies
from tests.upstream import Exchange, Script, upstream

DETECTOR = Detector()

FRENCH = "Votre avis est lu par les équipes concernées dans la semaine qui suit son envoi."
ENGLISH = "Your feedback is read by the teams in charge within the week after you have sent it."


def answers(told: dict[bool, str]) -> Script:
    """A plain answer, by whether there is a system message."""

    async def script(exchange: Exchange) -> None:
        text = told[exchange.body["messages"][0]["role"] == "system"]
        choice = {"index": 0, "message": {"role": "assistant", "content": f" {text}"}, "finish_reason": "stop"}
        body = {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
        await exchange.head(content_type="application/json")
        await exchange.send(json.dumps(body).encode())
        await exchange.end()

    return script


async def run(*arguments: str, told: dict[bool, str]) -> tuple[int, list[dict[str, Any]]]:
    """The exit code and what was asked, in an event loop of the harness's own."""
    async with upstream() as server:
        server.answers(answers(told))
        code = await asyncio.to_thread(main, ["--base-url", server.url, "--model", "m", *arguments])
        return code, [exchange.body for exchange in server.asked]


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    made = vocabularies.byte_level()
    made.add_tokens(["Ġthe", "Ġwith"])
    return vocabularies.saved(made, tmp_path)


async def test_each_question_is_asked_with_each_combination_and_seed(tokenizer: Path) -> None:
    code, asked = await run("--tokenizer", str(tokenizer), "--seeds", "2", told={True: FRENCH, False: ENGLISH})
    assert code == 0
    questions = read_questions()
    assert len(asked) == len(ALL) * 2 * len(questions)
    bias = logit_bias(english_tokens(load(tokenizer)))
    assert len(bias) >= 2
    seen = set()
    for body in asked:
        turns = body["messages"]
        instruction = turns[0] == {"role": "system", "content": INSTRUCTION}
        opening = turns[-1] == {"role": "assistant", "content": OPENING}
        assert [turn["role"] for turn in turns] == ["system"] * instruction + ["user"] + ["assistant"] * opening
        assert body.get("continue_final_message", False) is opening
        assert body.get("add_generation_prompt", True) is not opening
        assert body.get("logit_bias", bias) == bias
        assert (body["model"], body["temperature"], body["max_tokens"]) == ("m", 0.7, 160)
        seen.add((turns[instruction]["content"], body["seed"], instruction, opening, "logit_bias" in body))
    assert len(seen) == len(asked)
    seeds = {seed: question for question, seed, *_ in seen}
    assert len(seeds) == 2 * len(questions)
    assert all(seeds[seed] == question for question, seed, *_ in seen)


async def test_the_figures_are_printed_and_every_answer_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    profile = tmp_path / "p.toml"
    profile.write_text('[defaults]\ntemperature = 0.0\nmax_tokens = 9\nstop = ["\\n\\n"]\nrepetition_penalty = 1.1\n')
    kept = tmp_path / "kept.json"
    told = {True: FRENCH, False: ENGLISH}
    code, asked = await run("--profile", str(profile), "--json", str(kept), told=told)
    said = capsys.readouterr()
    assert code == 0
    lines = said.out.splitlines()
    assert lines[2] == "| none | 0 % (0–5) | 0 % (0–5) | 0 | 0 | 84 |  |"
    assert lines[3] == f"| instruction | 100 % (95–100) | 100 % (95–100) | 0 |  | {len(FRENCH)} | 80 / 0, p = 1.7e-24 |"
    assert "detector eldc " in lines[-1]
    assert said.err.splitlines()[0] == "passerelle: 1 of 4: none: 0 % (0–5) fully French"
    # Without a tokenizer there is no bias; the profile's temperature and length are not the harness's.
    assert not any("logit_bias" in body for body in asked)
    assert {(body["temperature"], body["max_tokens"], *body["stop"], body["repetition_penalty"]) for body in asked} == {
        (0.7, 160, "\n\n", 1.1)
    }
    answer = json.loads(kept.read_text(encoding="utf-8"))["answers"]["none"][0]
    assert answer["question"] == read_questions()[0]
    assert answer["text"] == ENGLISH
    assert answer["judgement"]["whole"] == "foreign"


async def test_another_instruction_can_be_tried() -> None:
    code, asked = await run("--only", "instruction", "--instruction", "Sois bref.", told={True: FRENCH, False: ENGLISH})
    assert code == 0
    assert {body["messages"][0]["content"] for body in asked} == {"Sois bref."}


def answered(question: str, text: str) -> Answer:
    return Answer(question, 0, text, "stop", judge(DETECTOR, text))


def test_questions_are_compared_and_not_answers() -> None:
    before = [answered("a", FRENCH), answered("a", ENGLISH), answered("b", FRENCH), answered("c", ENGLISH)]
    before.append(answered("d", FRENCH))
    after = [answered("a", FRENCH), answered("a", FRENCH), answered("b", ENGLISH), answered("c", ENGLISH)]
    after.append(answered("d", "Oui."))  # too short to tell is no worse
    assert against(before, after) == (1, 1)
    assert against(before, before) == (0, 0)


def test_a_table_without_the_baseline_compares_nothing() -> None:
    assert table({"bias": [answered("a", FRENCH)]}).splitlines()[-1].endswith(f"| {len(FRENCH)} |  |")
    assert "none judged" in table({"bias": [answered("a", "Oui.")]})


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "http://127.0.0.1:1/v1: Connection error."),
        (["--only", "bias"], "the bias needs --tokenizer"),
        (["--tokenizer", "/no/file"], "/no/file"),
        (["--profile", "/no/file"], "/no/file"),
    ],
)
def test_what_does_not_do_ends_in_one_sentence(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--base-url", "http://127.0.0.1:1/v1", "--model", "m", *arguments]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("passerelle: ")
    assert said in line


def test_the_help_shows_an_example_and_says_what_every_option_is_for() -> None:
    made = parser()
    assert "python -m evaluation.steering --base-url" in made.format_help().partition("example:")[2]
    assert [action.dest for action in made._actions if not action.help] == []


def test_the_questions_are_french_many_and_new() -> None:
    questions = read_questions()
    assert len(questions) == len(set(questions)) >= 72
    assert not set(questions) & set(others())
    verdicts = {question: DETECTOR.judge(question) for question in questions}
    assert [question for question, verdict in verdicts.items() if verdict is Verdict.FOREIGN] == []
