"""What is said to the reader in the model's place: why an answer ends, in French."""

from __future__ import annotations

import re
from typing import Final

from gateway.guardrails.abuse import Abuse
from gateway.guardrails.gate import GuardFailed, Violation
from gateway.guardrails.leaks import Leak

REFUSAL = (
    "Je suis désolé : je n'ai pas réussi à formuler une réponse en français à cette demande. "
    "Vous pouvez la reformuler ou réessayer dans un instant."
)
UNCHECKED = (
    "Je suis désolé : ma réponse ne peut pas être vérifiée pour le moment. Vous pouvez réessayer dans un instant."
)
UNCHECKED_CLOSING = "\n\nJe m'arrête ici : la suite de ma réponse ne peut pas être vérifiée pour le moment."
STOPPED = "Je suis désolé : je ne peux pas donner cette réponse."
STOPPED_CLOSING = "\n\nJe m'arrête ici : je ne peux pas donner la suite de cette réponse."
CLOSING = "\n\nJe m'arrête ici : la suite de ma réponse n'était pas en français."

_ITEM: Final = re.compile(r"[ \t]*(?:[-*+•–]|\d{1,3}[.)])[ \t]")


def closing(violation: Violation, *, begun: bool) -> str:
    """What is said in place of what may not be delivered; `begun`: something was."""
    if isinstance(violation, GuardFailed):
        return UNCHECKED_CLOSING if begun else UNCHECKED
    if isinstance(violation, Leak | Abuse):
        return STOPPED_CLOSING if begun else STOPPED
    return ""


def before_a_sentence(said: str) -> str:
    """What stands between a text and the sentence that goes on from it: no sentence goes on in the item of a list."""
    if said.endswith("\n"):
        return ""
    return "\n\n" if _ITEM.match(said.rpartition("\n")[2]) else " "
