"""Personal data in an answer: values that nobody gave to the model."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from gateway.guardrails.personal import Found, find
from gateway.guardrails.pseudonyms import mask


class MaskingStage:
    """Takes an answer sentence by sentence; masks, or only counts, personal data that the request, `given`, does not hold."""

    holds = False

    def __init__(
        self, given: Iterable[str], *, mask: bool, hidden: Callable[[str, str], None] = lambda kind, place: None
    ) -> None:
        """`hidden` hears of the kind of each value that is masked."""
        self._given, self._mask, self._hidden = given, mask, hidden
        self._known: frozenset[str] | None = None
        self.found = 0

    def feed(self, text: str) -> str:
        """See `Stage`."""
        found = [one for one in find(text) if not self._is_known(text, one)]
        self.found += len(found)
        if not found or not self._mask:
            return text
        for one in found:
            self._hidden(one.kind, "answer")
        return mask(text, found)

    def finish(self) -> str:
        """See `Stage`."""
        return ""

    def finding(self) -> str:
        """See `Judging`."""
        if not self.found:
            return "passed"
        return "modified" if self._mask else "flagged"

    def _is_known(self, text: str, one: Found) -> bool:
        if self._known is None:
            self._known = frozenset(_form(given, each) for given in self._given for each in find(given))
        return _form(text, one) in self._known


def _form(text: str, found: Found) -> str:
    """A value without what is only layout."""
    return "".join(filter(str.isalnum, text[found.start : found.end])).casefold()
