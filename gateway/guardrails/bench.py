"""How good the guards are on labelled files: recall, precision, false alarms, and the time they take.

A line is one JSON object, and its fields say which guard it is for:

- `lang`, `text` (and `cat`): is the text French? A text too short to tell is counted apart.
- `text`, `switch`: a French answer that leaves French at the character `switch`; it goes through the output gate in words.
- `text`, `spans` of `start` and `end`: personal data, none where `spans` is empty.
- `label` 1 or 0, `text`: abuse; with `lang` also, an injection in that language.
"""

from __future__ import annotations

import re
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Final

from gateway.guardrails.gate import Drift
from gateway.guardrails.guards import Rules, classifier
from gateway.guardrails.language import Verdict
from gateway.guardrails.personal import Found, find
from gateway.guardrails.rates import Rate

Row = Mapping[str, Any]
GUARDS: Final = ("language", "language_switch", "personal_data", "moderation", "injection_fr", "injection_en")
_COVERED: Final = 0.8  # of a span's letters and digits
_PIECE: Final = re.compile(r"\s*\S+")


@dataclass
class Figures:
    """What was counted of one guard, times in microseconds. `found` is of all that is to be found, `alarms` of what is harmless.

    `right` is of all finds. `abstained` rows are in none of them. `after` is how many characters past the switch an answer was
    when it was stopped. `by_category` holds the alarms of each category of harmless rows.
    """

    n: int = 0
    hits: int = 0
    wanted: int = 0
    false: int = 0
    harmless: int = 0
    wrong: int = 0
    abstained: int = 0
    times: list[float] = field(default_factory=list)
    after: list[int] = field(default_factory=list)
    by_category: dict[str, list[bool]] = field(default_factory=lambda: defaultdict(list))

    @property
    def recall(self) -> Rate:
        """Found, of what is to be found."""
        return Rate(self.hits, self.wanted)

    @property
    def precision(self) -> Rate:
        """Right, of what was found."""
        return Rate(self.hits, self.hits + self.wrong)

    @property
    def false_alarm_rate(self) -> Rate:
        """Harmless rows with a find, of all harmless rows."""
        return Rate(self.false, self.harmless)

    def wrongly(self, row: Row, *, alarm: bool) -> None:
        """Count a harmless row."""
        self.harmless += 1
        self.false += alarm
        self.by_category[str(row.get("cat", ""))].append(alarm)

    def microseconds(self, share: float) -> float:
        """So many rows in a hundred took at most so long."""
        ordered = sorted(self.times)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0

    def shown(self) -> dict[str, Any]:
        """For JSON; a rate of nothing is null."""
        rates = {"recall": self.recall, "precision": self.precision, "false_alarm_rate": self.false_alarm_rate}
        shown: dict[str, Any] = {"n": self.n}
        for name, rate in rates.items():
            shown[name] = round(rate.share, 4) if rate.judged else None
        shown |= {"p50_us": round(self.microseconds(0.5), 1), "p99_us": round(self.microseconds(0.99), 1)}
        shown |= {f"{name}_interval": [round(end, 4) for end in rate.interval] for name, rate in rates.items()}
        shown["abstained"] = self.abstained
        if self.after:
            shown["median_after_switch"] = statistics.median(self.after)
        shown["false_alarms"] = {name: sum(hits) for name, hits in sorted(self.by_category.items()) if any(hits)}
        return shown


def guard_of(row: Row) -> str | None:
    """The guard whose shape a row has; None for none."""
    if not isinstance(row.get("text"), str):
        return None
    if isinstance(row.get("switch"), int):
        return "language_switch"
    if isinstance(row.get("spans"), list):
        return "personal_data"
    if row.get("label") in (0, 1):
        language = row.get("lang")
        name = f"injection_{language}" if language else "moderation"
        return name if name in GUARDS else None
    return "language" if isinstance(row.get("lang"), str) and "label" not in row else None


def fault_of(row: Row) -> str | None:
    """What is wrong with a row that has a guard's shape; None for nothing."""
    length = len(row["text"])
    if guard_of(row) == "language_switch" and not 0 < row["switch"] <= length:
        return f"switch is {row['switch']}, but the text has {length} characters"
    for span in row["spans"] if guard_of(row) == "personal_data" else ():
        start, end = (span.get("start"), span.get("end")) if isinstance(span, dict) else (None, None)
        if not (isinstance(start, int) and isinstance(end, int) and 0 <= start < end <= length):
            return f"a span needs start and end, whole numbers within the {length} characters of the text, start before end"
    return None


def measure(rows: Iterable[Row], rules: Rules, told: Callable[[int], None] = lambda _: None) -> dict[str, Figures]:
    """The figures of each guard that has rows; `told` hears how many rows are done."""
    figures: dict[str, Figures] = {}
    steps = {
        "language": _language,
        "language_switch": _switch,
        "personal_data": _personal_data,
        "moderation": _moderation,
        "injection_fr": _injection,
        "injection_en": _injection,
    }
    for number, row in enumerate(rows, start=1):
        guard = guard_of(row)
        if guard is not None:
            counted = figures.setdefault(guard, Figures())
            counted.n += 1
            steps[guard](row, rules, counted)
        told(number)
    return {guard: figures[guard] for guard in GUARDS if guard in figures}


def _language(row: Row, rules: Rules, counted: Figures) -> None:
    began = perf_counter()
    verdict = rules.detector.judge(row["text"])
    counted.times.append(1e6 * (perf_counter() - began))
    alarm = verdict is Verdict.FOREIGN
    if verdict is Verdict.UNDECIDED:
        counted.abstained += 1
    elif row["lang"] == "fr":
        counted.wrong += alarm
        counted.wrongly(row, alarm=alarm)
    else:
        counted.wanted += 1
        counted.hits += alarm


def _switch(row: Row, rules: Rules, counted: Figures) -> None:
    text, switch = row["text"], row["switch"]
    began = perf_counter()
    stopped = _stopped(rules, text)
    counted.times.append(1e6 * (perf_counter() - began))
    alarm = _stopped(rules, text[:switch]) is not None
    counted.wanted += 1
    counted.wrong += alarm
    counted.wrongly({"cat": row.get("kind", "")}, alarm=alarm)
    if stopped is not None and not alarm:
        counted.hits += 1
        counted.after.append(max(0, stopped - switch))


def _stopped(rules: Rules, text: str) -> int | None:
    """How many characters had come when the gate found that the text is not French; None if it never did."""
    stage = rules.language()
    end = 0
    try:
        for match in _PIECE.finditer(text):
            end = match.end()
            stage.feed(match.group())
        stage.finish()
    except Drift:
        return end
    return None


def _personal_data(row: Row, _: Rules, counted: Figures) -> None:
    text, spans = row["text"], row["spans"]
    began = perf_counter()
    found = find(text)
    counted.times.append(1e6 * (perf_counter() - began))
    if not spans:
        counted.wrong += len(found)
        counted.wrongly(row, alarm=bool(found))
        return
    counted.wanted += len(spans)
    counted.hits += sum(_covered(text, span, found) for span in spans)
    counted.wrong += sum(all(one.end <= span["start"] or span["end"] <= one.start for span in spans) for one in found)


def _covered(text: str, span: Row, found: Sequence[Found]) -> bool:
    places = [place for place in range(span["start"], span["end"]) if text[place].isalnum()]
    hidden = sum(any(one.start <= place < one.end for one in found) for place in places)
    return hidden >= _COVERED * len(places)


def _moderation(row: Row, rules: Rules, counted: Figures) -> None:
    _scored(row, "moderation", rules, counted)


def _injection(row: Row, rules: Rules, counted: Figures) -> None:
    _scored(row, "injection", rules, counted)


def _scored(row: Row, name: str, rules: Rules, counted: Figures) -> None:
    limit, trained = rules.threshold(name), classifier(name)
    began = perf_counter()
    alarm = trained.score(row["text"]) >= limit
    counted.times.append(1e6 * (perf_counter() - began))
    if row["label"]:
        counted.wanted += 1
        counted.hits += alarm
    else:
        counted.wrong += alarm
        counted.wrongly(row, alarm=alarm)
