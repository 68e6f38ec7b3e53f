"""Sentences for guards that judge whole ones, where the language guard does not hold text back already."""

from __future__ import annotations

from gateway.guardrails import sentences
from gateway.guardrails.gate import Stage


class Cutter:
    """Hands a text on sentence by sentence to `stages`, each of which may hold it back, change it or stop it."""

    def __init__(self, stages: list[Stage], *, hold: int) -> None:
        """`hold` is the longest sentence, in characters."""
        self._stages, self._hold = stages, hold
        self._text = ""

    def feed(self, text: str) -> str:
        """See `Stage`."""
        self._text += text
        released, start = "", 0
        while (stop := sentences.end(self._text, start, self._hold)) is not None:
            released += self._through(self._text[start:stop])
            start = stop
        self._text = self._text[start:]
        return released

    def finish(self) -> str:
        """See `Stage`."""
        text, self._text = self._text, ""
        for stage in self._stages:
            text = (stage.feed(text) if text else "") + stage.finish()
        return text

    def _through(self, sentence: str) -> str:
        for stage in self._stages:
            sentence = stage.feed(sentence)
        return sentence


class Onlooker:
    """Lets all text through at once, while a stage that stops nothing looks on."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    def feed(self, text: str) -> str:
        """See `Stage`."""
        self._stage.feed(text)
        return text

    def finish(self) -> str:
        """See `Stage`."""
        self._stage.finish()
        return ""
