"""What the gateway counts of requests and their answers (docs/monitoring.md).

Labels are bounded, by this code or by the configuration. Tenants, users and keys are not: they have `passerelle usage` instead.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, Final, Generic, TypeVar

from prometheus_client import CollectorRegistry, Counter, Histogram

from gateway.batch import Batch
from gateway.exchange import Attempt, Exchange

T = TypeVar("T", Counter, Histogram)

SECONDS: Final = (0.05, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60, 120, 300)
BETWEEN_TOKENS: Final = (0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5)
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_LANGUAGE: Final = {"modified": "repaired", "flagged": "foreign", "not_evaluated": "undecided", "off": "undecided"}
# How the reasons of failed attempts begin, and the few words that they are counted under.
_REASONS: Final = (
    (("status 429",), "status_429"),
    (("status 4",), "status_4xx"),
    (("status 5",), "status_5xx"),
    (("no answer within", "silent for", "not done within"), "timeout"),
    (("cannot connect", "connection closed"), "connect"),
    (("cut", "broken exchange"), "cut"),
    (("content type", "malformed", "an event", "an error event", "an answer that", "not one vector"), "malformed"),
    (("language",), "language"),
)


class Children(dict[tuple[str, ...], T], Generic[T]):
    """The children of a metric by their labels: its own `labels` costs more than counting does."""

    def __init__(self, metric: T) -> None:
        super().__init__()
        self._metric: T = metric

    def __missing__(self, labels: tuple[str, ...]) -> T:
        child: T = self._metric.labels(*labels)
        self[labels] = child
        return child


class Counts:
    """Counters and histograms of one worker."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, says: str, *labels: str) -> Children[Counter]:
            return Children(Counter(f"passerelle_{name}", says, labels, registry=registry))

        def histogram(name: str, says: str, buckets: tuple[float, ...]) -> Children[Histogram]:
            return Children(Histogram(f"passerelle_{name}", says, ["model"], buckets=buckets, registry=registry))

        self._first_targets: Mapping[str, str] = {}
        self._findings: defaultdict[tuple[str, str], int] = defaultdict(int)  # of guards, not in the metrics yet
        self._spent: defaultdict[str, float] = defaultdict(float)  # the seconds that these took
        self._judged: defaultdict[str, int] = defaultdict(int)  # pieces of answers, likewise
        self._outside: frozenset[str] = frozenset()
        self._due = Batch(self._pay)  # how much is to be added to which counter
        self._http = counter("http_requests", "HTTP requests that have ended.", "route", "method", "status")
        self._errors = counter("errors", "Errors told to callers, by code.", "code")
        self._limited = counter("limited", "Requests refused by a limit.", "scope", "measure")
        self._chats = counter("chats", "Requests to models that have ended, by outcome.", "model", "target", "state")
        self._tokens = counter("tokens", "Tokens, delivered or not, by kind.", "model", "kind")
        self._repairs = counter("repairs", "Answers asked again for not being French.", "model")
        self._attempts = counter("attempts", "Tries at a target, by how they ended.", "target", "outcome", "reason")
        self._failovers = counter(
            "failovers", "Answers of another target than the model's first.", "model", "target", "outside"
        )
        self._language = counter("language_answers", "Answers, by what became of their language.", "model", "verdict")
        self._sentences = counter("sentences", "Pieces of answers whose language was judged.", "verdict")
        self._verdicts = counter("guard_verdicts", "What guards made of requests and answers.", "guard", "verdict")
        self._guarding = counter("guard_seconds", "Seconds that guards took.", "guard")
        self._personal = counter("personal_data", "Personal data found and hidden, by kind.", "kind", "place")
        self._cost = counter("cost", "Money spent, in the configured currency.", "model", "target", "kind")
        self._avoided = counter("cost_avoided", "Money that the reference would have cost.", "model", "target")
        self._busy = counter("busy_seconds", "Machine time of one's own that requests took.", "target")
        rows, tries = "Rows moved from the journal into the database.", "Times the database took no rows."
        self._drained = Counter("passerelle_ledger_rows", rows, registry=registry)
        self._undrained = Counter("passerelle_ledger_drain_failures", tries, registry=registry)
        self._reloads = counter("config_reloads", "Times the configuration was read again.", "result")
        self._seconds = histogram("chat_seconds", "Seconds from request to last byte.", SECONDS)
        self._first = histogram("first_text_seconds", "Seconds from request to the first text released.", SECONDS)
        self._between = histogram(
            "inter_token_seconds", "Mean seconds between two tokens of a model server's answer.", BETWEEN_TOKENS
        )
        for result in ("ok", "refused"):  # shown before the first one, so that alerts see it come
            self._reloads[result,].inc(0)

    def publish(self, first_targets: Mapping[str, str], outside: Iterable[str]) -> None:
        """Go on with these published models and the first target of each, and these targets that are outside."""
        self._first_targets, self._outside = first_targets, frozenset(outside)

    def answered(self, route: str, method: str, status: int, error: str | None, limit: tuple[str, str] | None) -> None:
        """Count an HTTP request that has ended: the template of its route, and what it was refused for."""
        known = method if method in _METHODS else "other"
        self._add(self._http[route, known, f"{status // 100}xx" if status else "none"])
        if error is not None:
            self._add(self._errors[error,])
        if limit is not None:
            self._add(self._limited[limit])

    def observe(self, exchange: Exchange) -> None:
        """Count an exchange that has ended."""
        model = exchange.model if exchange.model in self._first_targets else "unknown"
        target = exchange.served_by or "none"
        self._add(self._chats[model, target, str(exchange.state)])
        if repairs := exchange.repairs:
            self._add(self._repairs[model,], repairs)
        for attempt in exchange.attempts:
            self._attempt(model, attempt)
        if exchange.ended is not None:
            self._seconds[model,].observe(exchange.ended - exchange.started)
        if exchange.first_text is not None:
            self._first[model,].observe(exchange.first_text - exchange.started)
            if exchange.attempts:
                self._add(self._language[model, _language(exchange)])
        if target not in ("none", self._first_targets.get(model, target)):
            self._add(self._failovers[model, target, "true" if target in self._outside else "false"])
        for guard, finding in exchange.guards.items():
            if finding.verdict != "off":
                self._findings[guard, finding.verdict] += 1
                self._spent[guard] += finding.seconds

    def settle(self) -> None:
        """Put the findings of guards into their metrics: there are twenty figures to a request, half of all it would count."""
        self._due.flush()
        for labels, times in self._findings.items():
            self._verdicts[labels].inc(times)
        for guard, seconds in self._spent.items():
            if seconds:
                self._guarding[guard,].inc(seconds)
        for verdict, pieces in self._judged.items():
            self._sentences[verdict,].inc(pieces)
        self._judged.clear()
        self._findings.clear()
        self._spent.clear()

    def sentence(self, verdict: str) -> None:
        """Count a piece of an answer that the language guard has judged."""
        self._judged[verdict] += 1

    def hidden(self, kind: str, place: str) -> None:
        """Count personal data hidden in a `request` or an `answer`."""
        self._personal[kind, place].inc()

    def written(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Count the money and the machine time in rows of the ledger: they cannot disagree with it."""
        for row in rows:
            if target := row["target"]:
                model = row["model"] if row["model"] in self._first_targets else "unknown"
                spent, busy = self._cost[model, target, row["kind"]], self._busy[target,]  # shown from now on
                if cost := float(row["cost"]):
                    self._add(spent, cost)
                if avoided := float(row["avoided"]):
                    self._add(self._avoided[model, target], avoided)
                if seconds := row["busy_seconds"]:
                    self._add(busy, seconds)

    def drained(self, rows: int | None) -> None:
        """Count rows that the database has taken; None where it did not."""
        if rows is None:
            self._undrained.inc()
        else:
            self._drained.inc(rows)

    def reloaded(self, *, ok: bool) -> None:
        """Count a reload of the configuration."""
        self._reloads["ok" if ok else "refused",].inc()

    def _add(self, counter: Counter, amount: float = 1) -> None:
        """Count with all that is counted in this turn: many requests add to one counter, which writes into a file each time."""
        self._due.add((counter, amount))

    def _pay(self, due: list[tuple[Counter, float]]) -> None:
        sums = defaultdict[Counter, float](float)
        for counter, amount in due:
            sums[counter] += amount
        for counter, amount in sums.items():
            counter.inc(amount)

    def _attempt(self, model: str, attempt: Attempt) -> None:
        self._add(self._attempts[attempt.target, str(attempt.outcome), _reason(attempt.reason)])
        self._add(self._tokens[model, "prompt"], attempt.prompt_tokens)
        self._add(self._tokens[model, "completion"], attempt.completion_tokens)
        if attempt.completion_tokens > 1 and attempt.last_token > attempt.first_token:
            between = (attempt.last_token - attempt.first_token) / (attempt.completion_tokens - 1)
            self._between[model,].observe(between)


def _language(exchange: Exchange) -> str:
    """What became of the language of an answer."""
    if exchange.blocked_by == "language":
        return "stopped" if exchange.served_by else "refused"
    if exchange.repairs:
        return "repaired"
    finding = exchange.guards.get("language")
    if finding is None or finding.verdict != "passed":
        return _LANGUAGE.get(finding.verdict, "undecided") if finding else "undecided"
    return "asked_for" if exchange.asked_language else "french"


def _reason(reason: str | None) -> str:
    if reason is None:
        return "none"
    return next((word for beginnings, word in _REASONS if reason.startswith(beginnings)), "refused")
