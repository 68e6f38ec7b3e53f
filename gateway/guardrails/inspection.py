"""What the guards make of one request: on its way in, on its way to a model, and what its answer is compared with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter
from typing import Final

import msgspec

from gateway import strings
from gateway.errors import ContentPolicy, GuardUnavailable
from gateway.exchange import Finding
from gateway.guardrails.asked import language_asked
from gateway.guardrails.classifier import Look, Reading, readings
from gateway.guardrails.gate import Gate
from gateway.guardrails.guards import NOTHING, TRAINED, Rules, Texts, classifier
from gateway.guardrails.leaks import Instructions
from gateway.guardrails.personal import find
from gateway.guardrails.pseudonyms import Pseudonyms, mask
from gateway.protocol import TEXTS, Request

_REFUSALS: Final = {
    "terms": "Votre demande contient un terme que ce service n'accepte pas.",
    "injection": "Votre demande ressemble à une tentative de détourner l'assistant de ses consignes : reformulez-la.",
    "moderation": "Votre message contient des propos que ce service n'accepte pas : reformulez-le sans insulte ni menace.",
    "personal_data": "Votre demande contient des données personnelles que ce service n'accepte pas : retirez-les.",
}
_UNCHECKED: Final = "Votre demande ne peut pas être vérifiée pour le moment : réessayez dans un instant."
# What is said last of a guard is the strongest of what was said of it.
_STRENGTH: Final = {
    verdict: place for place, verdict in enumerate(("off", "not_evaluated", "passed", "flagged", "modified", "blocked"))
}
_AGAIN: Final = 8  # texts of a request that are looked at again beside it: more would keep those of others waiting
_LONG: Final = 16_384  # characters; guards that read more would hold up everybody


@dataclass
class Inspection:
    """One request under `rules`. `findings` say what each guard has made of the request itself.

    `allowed` are the languages that an answer may have beside French; `doubtful` the texts that a judge should look at;
    `distressed` says that the answer is to be the help line.
    """

    rules: Rules
    request: Request
    findings: dict[str, Finding] = field(default_factory=dict)
    allowed: frozenset[str] = frozenset()
    doubtful: list[str] = field(default_factory=list)
    distressed: bool = False
    _read: dict[str, list[Reading]] = field(default_factory=dict)
    _looks: dict[tuple[str, str], Look] = field(default_factory=dict)
    _again: dict[str, list[Look]] = field(default_factory=dict)
    _pseudonyms: Pseudonyms | None = None
    _texts: Texts | None = None
    _counted: bool = False

    def takes_time(self) -> bool:
        """Whether `admit` would hold up others: a long text, or one that needs a second look."""
        if sum(map(len, self.request.texts())) > _LONG:
            return True
        try:
            return self._hesitates()
        except Exception:  # noqa: BLE001  # `admit` meets it again, and knows what becomes of a guard that fails
            return False

    def admit(self) -> None:
        """Let the request in.

        Raises:
            ContentPolicy: a guard does not. What it found is not echoed.
            GuardUnavailable: nobody can tell, and the policy is to refuse then.
        """
        request, rules = self.request, self.rules
        said = request.said()
        self._refuse_if("terms", lambda: any(map(rules.terms.found, request.texts())))
        if rules.tables.personal_data.own != "allow":
            self._look_for_personal_data()
        if said:
            self._refuse_if("injection", lambda: self._over("injection", self._scores("injection", said)))
            self._admit_distress(said)
            self._admit_moderation(request.latest())
            self.allowed |= language_asked(said[-1])

    @property
    def unsure(self) -> bool:
        """Whether guards that only annotate would like a second look."""
        return bool(self._again)

    def look_again(self) -> None:
        """Take the second looks that nobody waits for: from now on the findings are what `enforce` would have made of it."""
        for guard, looks in self._again.items():
            scores, limit = map(classifier(guard).settle, looks), self.rules.threshold(guard)
            self._found(guard, partial(any, (score >= limit for score in scores)))

    def judged(self, abusive: bool | None, reason: str | None, seconds: float) -> None:
        """Take the word of a judge, None where there is none and `reason` says why; raises ContentPolicy."""
        known = self.findings.get("moderation", NOTHING)
        verdict = "not_evaluated" if abusive is None else "flagged" if abusive else "passed"
        self.findings["moderation"] = Finding(verdict, reason, known.seconds + seconds)
        if abusive and self.rules.modes["moderation"] == "enforce":
            self.convict("moderation")

    def convict(self, guard: str) -> None:
        """Refuse the request for what `guard` found after all; raises ContentPolicy."""
        self.findings[guard] = self.findings.get(guard, NOTHING)._replace(verdict="blocked")
        raise ContentPolicy(_REFUSALS[guard], param=TEXTS[self.request.task])

    def outgoing(self, *, outside: bool) -> tuple[Request, Pseudonyms | None]:
        """The request as a target may see it, and what its answer has to be restored by.

        Raises:
            ContentPolicy: it holds personal data, which may not go there.
        """
        own, policy = self.rules.tables.personal_data.own, self.rules.tables.personal_data.outside
        if outside and own == "allow" and policy in ("pseudonymise", "refuse", "mask"):
            found = self._holds_personal_data()
            if not found:
                return self.request, None
            self._note("personal_data", "blocked" if policy == "refuse" else "modified")
            if policy == "refuse":
                self.convict("personal_data")
            if policy == "pseudonymise":
                self._pseudonyms = self._pseudonyms or Pseudonyms()
                hidden = _with_texts(self.request, self._pseudonyms.hide)
                self._count(self._pseudonyms.kinds())
                return hidden, self._pseudonyms
            return self._masked(), None
        if own == "mask" and self.findings.get("personal_data", NOTHING).verdict == "modified":
            return self._masked(), None
        return self.request, None

    def may_go_outside(self) -> bool:
        """Whether an outside target may be asked at all."""
        tables = self.rules.tables.personal_data
        return tables.outside != "refuse" or not self._holds_personal_data()

    def gate(self, pseudonyms: Pseudonyms | None = None) -> Gate:
        """A fresh gate for one text of the answer."""
        if self._texts is None:
            request = self.request
            self._texts = Texts(Instructions(request.instructions()), tuple(request.said()), tuple(request.texts()))
        return self.rules.gate(self._texts, self.allowed, pseudonyms.restorer() if pseudonyms else None)

    def audit(self, gates: Iterable[Gate], *, blocked_by: str | None = None, repairs: int = 0) -> dict[str, Finding]:
        """What each guard has made of request and answer: `passed`, `blocked`, `modified`, `flagged` or `off`.

        `flagged` is what `annotate` says where `enforce` would have acted; `not_evaluated` means that there was nothing to
        judge, or, with a reason, that the guard has failed.
        """
        found = {**self.rules.silent, **self.findings}
        for gate in gates:
            for guard, safe in gate.guards.items():
                finding = Finding(safe.finding(), "failed" if safe.failed else None, safe.spent)
                found[guard] = _stronger(found[guard], finding)
        if repairs and found["language"].verdict == "passed":
            found["language"] = found["language"]._replace(verdict="modified", reason="regenerated")
        if blocked_by is not None:
            found[blocked_by] = found[blocked_by]._replace(verdict="blocked")
        return found

    def _masked(self) -> Request:
        kinds: list[str] = []

        def masked(text: str) -> str:
            found = find(text)
            kinds.extend(one.kind for one in found)
            return mask(text, found)

        hidden = _with_texts(self.request, masked)
        self._count(kinds)
        return hidden

    def _count(self, kinds: Iterable[str]) -> None:
        """Tell what was hidden in the request, once, however often it is sent."""
        if not self._counted:
            for kind in kinds:
                self.rules.heard.hidden(kind, "request")
        self._counted = True

    def _admit_distress(self, said: Sequence[str]) -> None:
        if self._found("distress", lambda: self._over("distress", self._scores("distress", said[-1:]))):
            self.distressed = self.rules.modes["distress"] == "enforce"
            self._note("distress", "modified" if self.distressed else "flagged")

    def _admit_moderation(self, said: Sequence[str]) -> None:
        """Of what was said since the last answer: an insult of before must not end the conversation for good."""
        if self.distressed:
            return
        rules, scores = self.rules, list[float]()

        def found() -> bool:
            scores.extend(self._scores("moderation", said))
            return self._over("moderation", scores)

        self._refuse_if("moderation", found)
        grey = rules.threshold("moderation", "grey") if scores else 1.0
        self.doubtful = [text for text, score in zip(said, scores, strict=False) if score >= grey]

    def _look_for_personal_data(self) -> None:
        if self._finds_personal_data():
            if self.rules.tables.personal_data.own == "refuse":
                self.convict("personal_data")
            self._note("personal_data", "modified")

    def _holds_personal_data(self) -> bool:
        known = self.findings.get("personal_data")
        if known is None:
            return self._finds_personal_data()
        return known.verdict != "passed"

    def _finds_personal_data(self) -> bool:
        return self._found("personal_data", lambda: any(map(find, strings.every(self.request.raw))))

    def _over(self, name: str, scores: list[float]) -> bool:
        """Whether one of the scores is one from which the guard acts."""
        limit = self.rules.first_threshold if name in self.rules.unhurried else self.rules.threshold
        return max(scores, default=0.0) >= limit(name)

    def _scores(self, name: str, texts: Sequence[str]) -> list[float]:
        """One a text; where nobody waits for second looks, by the first."""
        looks, trained = [self._look(name, text) for text in texts], classifier(name)
        if name not in self.rules.unhurried:
            return [*map(trained.settle, looks)]
        if 0 < sum(map(trained.hesitates, looks)) <= _AGAIN:
            self._again[name] = looks
        return [look.probability for look in looks]

    def _look(self, name: str, text: str) -> Look:
        known = self._looks.get((name, text))
        if known is None:
            trained = classifier(name)
            read = self._read.get(text)
            if read is None:  # for all of them at once
                read = self._read[text] = readings(trained.table, text)
            known = self._looks[name, text] = trained.look_at(read)
        return known

    def _hesitates(self) -> bool:
        rules = self.rules
        for guard in TRAINED:
            if rules.modes[guard] != "off" and guard not in rules.unhurried:
                trained = classifier(guard)
                for text in self.request.said():
                    if trained.hesitates(self._look(guard, text)):
                        return True
        return False

    def _refuse_if(self, guard: str, check: Callable[[], bool]) -> None:
        if self._found(guard, check) and self.rules.modes[guard] == "enforce":
            self.convict(guard)

    def _found(self, guard: str, check: Callable[[], bool]) -> bool:
        """Whether the guard finds something; what comes of its failure is the policy's to say."""
        if self.rules.modes[guard] == "off":
            return False
        began = perf_counter()
        try:
            found = check()
        except Exception as error:  # noqa: BLE001  # whatever goes wrong in a guard, it has not checked the text
            self._unchecked(guard, type(error).__name__, perf_counter() - began)
            return False
        took = perf_counter() - began
        self._note(guard, "flagged" if found else "passed", took)
        if took > self.rules.policy.guard_seconds and not found:
            self._unchecked(guard, "timeout", took)
        return found

    def _note(self, guard: str, verdict: str, seconds: float = 0.0) -> None:
        known = self.findings.get(guard, NOTHING)
        self.findings[guard] = Finding(verdict, None, known.seconds + seconds)

    def _unchecked(self, guard: str, reason: str, seconds: float) -> None:
        self.rules.failed(guard, reason)
        self.findings[guard] = Finding("not_evaluated", reason, seconds)
        if not self.rules.is_open(enforce=self.rules.modes[guard] == "enforce"):
            raise GuardUnavailable(_UNCHECKED, headers={"retry-after": "5"})


def _with_texts(request: Request, change: Callable[[str], str]) -> Request:
    """The request with every text but the model's name changed."""
    raw = {**strings.changed(request.raw, change), "model": request.raw["model"]}
    return msgspec.structs.replace(request, raw=raw)  # type: ignore[type-var]  # every request is a struct


def _stronger(known: Finding, other: Finding) -> Finding:
    """What both say together: the stronger, or of two that let pass the one that has failed, and the time of both."""
    if known is NOTHING:
        return other
    first = _STRENGTH[known.verdict] >= _STRENGTH[other.verdict]
    stronger, weaker = (known, other) if first else (other, known)
    if weaker.reason and stronger.verdict in ("passed", "not_evaluated") and not (first and stronger.reason):
        stronger = weaker
    return Finding(stronger.verdict, stronger.reason, known.seconds + other.seconds)
