"""Instructions that must not be repeated to whoever asks: those of the system message, ours, and canaries.

A system message holds facts too, which an answer should repeat. So only sentences that speak to the model are secret, and only
in long runs of their own words: "Je suis l'assistant d'Acme" is an answer, "Tu es l'assistant d'Acme. Ne parle jamais de …" a
leak. A translated or encoded leak is not found.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from gateway.guardrails.gate import Violation
from gateway.guardrails.terms import Terms

RUN: Final = 12  # words on end
_SHORTEST: Final = 6  # words; an instruction shorter than a run is found whole, shorter than this never
_WORD: Final = re.compile(r"\w+")
_SENTENCE: Final = re.compile(r"[^.!?…\n]+")
# To the model and not to whoever reads the answer: "Vous pouvez rendre un article" is a fact to be passed on.
_SPEAKS_TO_THE_MODEL: Final = re.compile(
    r"\b(?:tu|vous) (?:es|êtes|incarne[sz]?|joue[sz]?|agi[st]|agissez|dois|devez|ne |n['’]|réponds|répondez|refuse[sz]?)\b|"
    r"\b(?:ton|ta|tes|votre|vos) (?:rôle|mission|tâche|nom|consignes?|instructions?|réponses?|prompt|persona\w*)\b|"
    r"^\W*(?:r[ée]ponds?|r[ée]pondez|refuse[zr]?|sois|soyez|adopte[zr]?|tutoie\w*|vouvoie\w*)\b|"
    r"^\W*(?:ne|n['’])\W?\w+(?:ez|e|s|is)?(?: \w+)? (?:jamais|pas|rien|aucune?)\b|"
    r"\b(?:instructions?|consignes?|prompt|message système)\b|"
    r"\byou (?:are|must|should|will|may|can ?not|never|always)\b|"
    r"^\W*(?:do not|don['’]t|never|always|answer|respond|reply|refuse|act as)\b",
    re.IGNORECASE,
)
_REMEMBERED: Final = 256  # system messages

Run = tuple[str, ...]


class Leak(Violation):
    """The answer repeats its instructions, or a canary."""

    guard = "leaks"


class Instructions:
    """The secret sentences of the texts that a request gives to the model as instructions."""

    def __init__(self, texts: Iterable[str]) -> None:
        self.runs, self.sizes, self.words = _secret(tuple(texts))

    def __bool__(self) -> bool:
        return bool(self.runs)


class LeakStage:
    """Takes an answer sentence by sentence; `enforce` stops it before the sentence that completes a leak.

    What the caller says itself, `said`, is no secret to it.
    """

    holds = False

    def __init__(self, instructions: Instructions, canaries: Terms, said: Iterable[str] = (), *, enforce: bool) -> None:
        self._instructions, self._canaries, self._said = instructions, canaries, said
        self._enforce = enforce
        self._words: list[str] = []
        self._tail = ""
        self.found = 0

    def feed(self, text: str) -> str:
        """See `Stage`."""
        if self._canary(text) or self._instruction(text):
            self.found += 1
            if self._enforce:
                raise Leak
        return text

    def finish(self) -> str:
        """See `Stage`."""
        return ""

    def finding(self) -> str:
        """See `Judging`."""
        return "flagged" if self.found else "passed"

    def _canary(self, text: str) -> bool:
        if not self._canaries:
            return False
        whole = self._tail + text
        self._tail = whole[-200:]
        return self._canaries.found(whole)

    def _instruction(self, text: str) -> bool:
        if not self._instructions:
            return False
        words = self._words + _words(text)
        known = len(self._words)
        self._words = words[-RUN:]
        if sum(map(self._instructions.words.__contains__, words)) < self._instructions.sizes[0]:  # too few for any run
            return False
        for size in self._instructions.sizes:
            for end in range(max(size, known + 1), len(words) + 1):
                run = tuple(words[end - size : end])
                if run in self._instructions.runs and not self._is_said(run):
                    return True
        return False

    def _is_said(self, run: Run) -> bool:
        wanted = " ".join(run)
        return any(wanted in " ".join(_words(text)) for text in self._said)


@lru_cache(maxsize=_REMEMBERED)
def _secret(texts: tuple[str, ...]) -> tuple[frozenset[Run], list[int], frozenset[str]]:
    """The runs of words that are secret, how long they are, the shortest first, and the words that they are made of."""
    runs = frozenset[Run]().union(*map(_runs, texts))
    return runs, sorted(set(map(len, runs))), frozenset[str]().union(*runs)


def _runs(text: str) -> frozenset[Run]:
    found: set[Run] = set()
    block: list[str] = []
    # Instructions that follow one another are one text: a run may go over the end of a sentence.
    for sentence in [*_SENTENCE.findall(text), ""]:
        if _SPEAKS_TO_THE_MODEL.search(sentence):
            block += _words(sentence)
            continue
        size = min(RUN, len(block))
        if size >= _SHORTEST:
            found |= {tuple(block[start : start + size]) for start in range(len(block) - size + 1)}
        if sentence.strip():
            block = []
    return frozenset(found)


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())
