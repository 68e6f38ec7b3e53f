from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.exchange import Finding
from gateway.fail_policy import FailPolicy
from gateway.guard_settings import Guards as GuardSettings
from gateway.guard_settings import LanguageGuard, TermsGuard
from gateway.guardrails.drift import LanguageStage
from gateway.guardrails.gate import Drift, ForbiddenTerm, Gate, Stage, TermsStage, Violation
from gateway.guardrails.guards import Guards
from gateway.guardrails.inspection import Inspection
from gateway.guardrails.language import Detector, Verdict
from gateway.guardrails.terms import Terms
from tests.gateway.cutting import cut
from tests.gateway.requests import request

DETECTOR = Detector()
HOLD = 400
FR = "Votre demande a bien été enregistrée par notre équipe."
FR_2 = "Vous recevrez une réponse détaillée d'ici deux jours ouvrés."
EN = "Your request has been recorded by the members of our team."
CODE = "```python\nprint('the answer to your question is recorded')\n```\n"

PROGRAM = '''```python
# This function computes the mean of the values in the list
def mean(values):
    """Return the arithmetic mean of a list of numbers.

    The list must not be empty, otherwise an error will be raised by the interpreter.
    """
    if not values:
        raise ValueError("The list of values must not be empty")
    return sum(values) / len(values)
```
'''


def gate(*, enforce: bool = True, terms: tuple[str, ...] = (), hold: int = HOLD) -> Gate:
    stages: list[Stage] = [LanguageStage(DETECTOR, hold=hold, enforce=enforce)]
    if terms:
        stages.append(TermsStage(Terms(terms), enforce=enforce))
    return Gate({}, stages)


def outcome(guarded: Gate, pieces: list[str]) -> tuple[str, str]:
    """What a gate lets out of a text in pieces, and the guard that stopped it, if one did."""
    released = ""
    try:
        for piece in pieces:
            released += guarded.feed(piece)
        return released + guarded.finish(), ""
    except Violation as violation:
        return released, violation.guard


PIECES = [
    FR,
    FR_2,
    EN,
    CODE,
    "Oui.",
    "Yes.",
    " ",
    "\n",
    "\n\n",
    "1. ",
    "- Menu\n",
    "M. ",
    "« ",
    "\u00a0»",
    "Il coûte 3.50 €.",
]
OPEN = [FR[:-1], EN[:-1], '"', "$$", "```\n", "> "]
PLAIN = st.lists(st.sampled_from(PIECES), max_size=8).map(" ".join)
TEXT = st.lists(st.sampled_from([*PIECES, *OPEN]), max_size=8).map(" ".join)


@given(TEXT.flatmap(cut), st.sampled_from([HOLD, 100, 61, 30]))
@example(["Il a dit : «\u00a0" + EN, "\u00a0", "» à tous."], HOLD)
@example(["\n", "\n", FR, "\n", "\n", "\n", "1", ". ", EN], HOLD)
def test_the_verdict_does_not_depend_on_how_the_text_arrives(pieces: list[str], hold: int) -> None:
    whole = outcome(gate(hold=hold), ["".join(pieces)])
    released, stopped = outcome(gate(hold=hold), pieces)
    assert stopped == whole[1]
    assert "".join(pieces).startswith(released)
    assert stopped or released == whole[0] == "".join(pieces)


@given(TEXT.flatmap(cut))
def test_at_every_moment_what_left_and_what_is_held_is_what_came(pieces: list[str]) -> None:
    guarded, came, left = gate(), "", ""
    try:
        for piece in pieces:
            came += piece
            left += guarded.feed(piece)
            assert came.startswith(left)
            assert len(came) - len(left) <= 2 * HOLD
        assert left + guarded.finish() == came
    except Drift:
        assert came.startswith(left)


@given(PLAIN.flatmap(cut))
def test_no_foreign_sentence_leaves_in_enforce(pieces: list[str]) -> None:
    released, _ = outcome(gate(), pieces)
    quoted = released.count("«")
    assert quoted or EN not in released


@given(TEXT.flatmap(cut))
def test_annotate_changes_nothing_and_delays_nothing(pieces: list[str]) -> None:
    guarded = gate(enforce=False)
    assert [*map(guarded.feed, pieces), guarded.finish()] == [*pieces, ""]


def test_a_sentence_leaves_when_it_is_whole_and_not_before() -> None:
    guarded = gate()
    assert [guarded.feed(piece) for piece in (FR[:20], FR[20:], " Vous")] == ["", "", FR]
    assert guarded.feed(" recevrez") == ""
    assert guarded.finish() == " Vous recevrez"


def test_short_sentences_wait_until_there_is_enough_to_judge() -> None:
    guarded = gate()
    assert guarded.feed("Oui. Bien sûr. ") == ""
    assert guarded.feed(FR + " ") == "Oui. Bien sûr. " + FR
    assert outcome(gate(), ["Yes. Sure. Of course. I can. Wait. "]) == ("", "language")


def test_a_foreign_sentence_after_french_ones_stops_the_rest_and_keeps_what_left() -> None:
    assert outcome(gate(), [FR + " ", FR_2 + " ", EN + " ", FR]) == (f"{FR} {FR_2}", "language")


@pytest.mark.parametrize("text", ["Oui.", "Yes.", "42", "", "```\ncode", "D'accord, à demain"])
def test_too_little_prose_is_let_out_at_the_end_and_called_undecided(text: str) -> None:
    language = LanguageStage(DETECTOR, hold=HOLD, enforce=True)
    assert outcome(Gate({}, [language]), list(text)) == (text, "")
    assert language.verdict is Verdict.UNDECIDED


@pytest.mark.parametrize(
    ("text", "stopped"),
    [
        pytest.param(CODE + FR, "", id="code, then French"),
        pytest.param(CODE + EN, "language", id="code, then English"),
        pytest.param(f"{FR}\n{CODE}{CODE}{EN}", "language", id="two blocks, then English"),
        pytest.param(f"```\n{EN}\n\n{EN}\n```\n{FR}", "language", id="prose inside a block"),
        pytest.param(f"```text\n{EN}\n{EN}\n```\n{FR}", "language", id="prose that says so"),
        pytest.param(f"```python\n{EN}\n{EN}\n{EN}\n```\n{FR}", "language", id="prose that says it is code"),
        pytest.param(f"```\n- {EN}\n- {EN}\n```\n{FR}", "language", id="a list inside a block"),
        pytest.param(f"```\n{FR}\n{FR_2}\n{FR}\n```\n{FR}", "", id="French prose inside a block"),
        pytest.param(f"```\nError: {EN}\n```\n{FR}", "", id="a message inside a block"),
        pytest.param("```\n" + "npm install express mongoose cors dotenv\n" * 9 + f"```\n{FR}", "", id="commands"),
        pytest.param(f"{PROGRAM}\n{FR}", "", id="a program with English comments and strings"),
        pytest.param(f"{FR}\n{PROGRAM}{EN}", "language", id="a program, then English"),
        pytest.param("```bash\n" + "make all\n" * 9 + (EN + "\n") * 12, "language", id="code, then prose without end"),
        pytest.param(f"~~~\n```\n{EN}\n~~~\n{FR}", "", id="the other mark does not end a block"),
        pytest.param(f"````\n```\n{EN}\n```\n````\n{FR}", "", id="a longer mark holds a shorter one"),
        pytest.param(f"```\n```python\n{EN}\n```\n{FR}", "", id="a mark with a word does not end a block"),
        pytest.param(f"```print(1)``` {EN}\n{EN}", "language", id="code within a sentence opens no block"),
        pytest.param(f"{FR} ```\n{EN}\n{EN}", "language", id="a mark in mid-line opens no block"),
        pytest.param(f"Oui. ```\n{EN}", "language", id="a mark after a short sentence opens no block"),
        pytest.param(f"```\nx = 1. ```\n{EN}\n```\n{FR}", "", id="a mark in mid-line ends no block"),
        pytest.param(f"1. ```\n   {EN}\n   ```\n{FR}", "", id="a block as a list item"),
        pytest.param(f"- ```\n  x = 1\n  ```\n{EN}", "language", id="a block as a list item, then English"),
        pytest.param(f"> ```\n> {EN}\n> ```\n{FR}", "", id="a block in a block quotation"),
        pytest.param(f"```\n- ```\n{EN}\n```\n{FR}", "", id="a list item in a block does not end it"),
        pytest.param(f"```\n{EN}", "", id="a block that never ends"),
    ],
)
def test_code_is_no_drift_and_hides_none(text: str, stopped: str) -> None:
    assert outcome(gate(), [text])[1] == stopped
    assert outcome(gate(), list(text))[1] == stopped


@pytest.mark.parametrize("quotation", ["« {} »", "“{}”", '"{}"', "«\u00a0{}\u00a0»"])
def test_a_quotation_of_several_sentences_is_no_drift(quotation: str) -> None:
    text = f"Le message dit : {quotation.format(f'{EN} {EN}')} et rien d'autre."
    assert outcome(gate(), list(text)) == (text, "")


@pytest.mark.parametrize("opening", ["« ", "“", '"', "$$ ", "\\[ ", "`", "<"])
def test_what_is_opened_and_not_closed_hides_a_drift_no_longer_than_the_hold(opening: str) -> None:
    assert outcome(gate(), list(f"{FR} {opening}{EN} " + f"{EN} " * 9)) == (FR, "language")


def test_a_drift_is_seen_before_its_sentence_ends() -> None:
    guarded = gate()
    guarded.feed(FR + " ")
    with pytest.raises(Drift):
        guarded.feed("Your request has been recorded by the members of the team that ")


def test_a_language_that_was_allowed_passes_and_no_other_does() -> None:
    def outcome_of(text: str) -> str:
        stage = LanguageStage(DETECTOR, hold=HOLD, enforce=True, allowed=frozenset({"en"}))
        return outcome(Gate({}, [stage]), list(text))[1]

    assert outcome_of(f"{FR} {EN} {EN}\n```\n{EN}\n{EN}\n```\n{FR_2}") == ""
    assert outcome_of(f"{FR} {EN} Su solicitud ha sido registrada por los miembros de nuestro equipo.") == "language"


class Counting(Detector):
    """Counts the characters it is asked about."""

    asked = 0

    def judge(self, text: str, allowed: frozenset[str] = frozenset()) -> Verdict:
        self.asked += len(text)
        return super().judge(text, allowed)

    def drifts(self, text: str, allowed: frozenset[str] = frozenset()) -> bool:
        self.asked += len(text)
        return super().drifts(text, allowed)


@pytest.mark.parametrize("piece", [" mot", "a", "— ", ". ", "« ", "` ", "\n", "\n- New York", "$$ "])
def test_the_work_grows_with_the_text_and_not_faster(piece: str) -> None:
    def asked(pieces: int) -> int:
        detector = Counting()
        stage = LanguageStage(detector, hold=HOLD, enforce=False)
        for _ in range(pieces):
            stage.feed(piece)
        return detector.asked

    assert asked(20_000) <= 15 * asked(2_000)


def test_no_sentence_is_held_longer_than_the_hold() -> None:
    guarded, left = gate(), ""
    for _ in range(40):
        left += guarded.feed("puis notre équipe reprend le dossier et vous écrit, ")
    assert len(left) >= 40 * 51 - HOLD


def test_a_long_list_of_names_is_not_held_to_its_end() -> None:
    guarded, left = gate(), ""
    for _ in range(100):
        left += guarded.feed("- New York\n")
    assert len(left) >= 100 * 11 - 2 * HOLD


def test_a_forbidden_term_stops_a_french_answer() -> None:
    guarded = gate(terms=("zorglub",))
    assert outcome(guarded, [FR + " ", "Le Zorg", "lub arrive à grands pas dans la ville. "]) == (FR, "terms")
    with pytest.raises(ForbiddenTerm):
        gate(terms=("zorglub",)).feed(f"{FR} zorglub et la suite de la phrase en français. ")


def audit(guards: Guards, text: str, *, blocked_by: str | None = None, repairs: int = 0) -> dict[str, str]:
    inspection = Inspection(guards.of(), request())
    guarded = inspection.gate()
    outcome(guarded, [text])
    return told(inspection.audit([guarded], blocked_by=blocked_by, repairs=repairs))


def told(findings: dict[str, Finding]) -> dict[str, str]:
    return {guard: findings[guard].verdict for guard in ("language", "terms")}


@pytest.mark.parametrize(
    ("settings", "text", "verdicts"),
    [
        ({}, FR, {"language": "passed", "terms": "off"}),
        ({}, "Oui.", {"language": "not_evaluated", "terms": "off"}),
        ({"language": LanguageGuard(mode="off")}, EN, {"language": "off", "terms": "off"}),
        ({"language": LanguageGuard(mode="annotate")}, EN, {"language": "flagged", "terms": "off"}),
        ({"terms": TermsGuard(terms=["zorglub"])}, FR, {"language": "passed", "terms": "passed"}),
        (
            {"terms": TermsGuard(mode="annotate", terms=["zorglub"])},
            FR + " Zorglub.",
            {"language": "passed", "terms": "flagged"},
        ),
        (
            {"terms": TermsGuard(mode="off", terms=["zorglub"])},
            "Zorglub.",
            {"language": "not_evaluated", "terms": "off"},
        ),
    ],
)
def test_the_audit_says_what_each_guard_decided(
    settings: dict[str, object], text: str, verdicts: dict[str, str]
) -> None:
    guards = Guards(GuardSettings.model_validate(settings))
    assert audit(guards, text) == verdicts


def test_the_audit_of_a_repaired_or_blocked_answer_says_so() -> None:
    guards = Guards(GuardSettings())
    assert audit(guards, FR, repairs=1)["language"] == "modified"
    assert audit(guards, FR, blocked_by="language")["language"] == "blocked"
    assert audit(guards, FR, blocked_by="terms") == {"language": "passed", "terms": "blocked"}


def test_the_audit_of_no_answer_does_not_say_that_a_guard_is_off() -> None:
    guards = Guards(GuardSettings(terms=TermsGuard(terms=["zorglub"])))
    assert told(Inspection(guards.of(), request()).audit([])) == {"language": "not_evaluated", "terms": "not_evaluated"}


ANNOTATING = GuardSettings.model_validate(
    {guard: {"mode": "annotate"} for guard in ("language", "moderation", "leaks", "loops")}
)


@given(st.lists(st.sampled_from(PIECES), min_size=1, max_size=6).flatmap(lambda texts: cut("".join(texts))))
def test_guards_that_only_look_on_let_each_piece_leave_and_find_the_same_however_it_comes(pieces: list[str]) -> None:
    rules = Guards(ANNOTATING).of()
    apart, whole = rules.gate(), rules.gate()
    assert apart.free
    assert [apart.feed(piece) for piece in pieces] == pieces
    assert whole.feed("".join(pieces)) == "".join(pieces)
    assert apart.finish() == whole.finish() == ""
    found = [{guard: safe.finding() for guard, safe in gate.guards.items()} for gate in (apart, whole)]
    assert found[0] == found[1]


def test_what_has_left_was_looked_at_when_somebody_asks() -> None:
    looking_on = Guards(ANNOTATING).of().gate()
    assert looking_on.feed(f"{EN} {EN[:-1]}") == f"{EN} {EN[:-1]}"  # a sentence under way
    assert looking_on.guards["language"].finding() == "flagged"


@pytest.mark.parametrize(
    ("tables", "policy"),
    [
        pytest.param({"language": {"mode": "enforce"}}, FailPolicy(), id="a guard stops answers"),
        pytest.param({"personal_data": {"answers": "mask"}}, FailPolicy(), id="a guard changes answers"),
        pytest.param({}, FailPolicy(annotating_guards="closed"), id="a guard that fails stops answers"),
    ],
)
def test_nothing_leaves_before_it_is_looked_at_where_a_guard_may_stop_or_change_it(
    tables: dict[str, Any], policy: FailPolicy
) -> None:
    settings = GuardSettings.model_validate({**ANNOTATING.model_dump(), **tables})
    assert not Guards(settings, policy).of().gate().free


def test_nothing_is_free_where_values_are_put_back() -> None:
    assert not Guards(ANNOTATING).of().gate(last=LanguageStage(DETECTOR, hold=HOLD, enforce=False)).free
