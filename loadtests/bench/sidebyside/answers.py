"""What the fake model server says: French sentences of exactly so many tokens, as bytes that lie ready."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache

FIRST, LAST = b"Vous", b"changement"  # the first and the last word of every answer
LENGTHS = (16, 128)  # tokens
_TEXTS = {
    16: "Vous pouvez suivre votre avis depuis votre espace personnel. Un courriel annonce chaque changement.",
    128: (
        "Vous pouvez suivre votre avis depuis votre espace personnel, où chaque étape du traitement est datée. "
        "Un premier contrôle automatique vérifie que le texte respecte les règles de la plateforme. "
        "Ensuite, une personne de notre équipe relit le message, en général dans la journée. "
        "Si une précision manque, elle écrit directement à son auteur et attend sa réponse. "
        "Les photos sont examinées à part, car leur lecture demande du temps. "
        "Quand tout est en ordre, la publication a lieu le lendemain matin. "
        "Le commerçant concerné reçoit alors une copie et dispose de deux semaines pour répondre. "
        "En cas de doute, le service client reste joignable par téléphone. Un courriel annonce chaque changement."
    ),
}
_PROMPT_TOKENS = 40


def tokens(count: int) -> list[str]:
    """The answer's text in pieces: words with the blank before them, and marks."""
    return re.findall(r" ?[\w’-]+|[^\w\s]", _TEXTS[count])


@dataclass(frozen=True)
class Answer:
    """One answer in both forms, as HTTP responses; a stream also event by event, after its head."""

    plain: bytes
    stream_head: bytes
    events: tuple[bytes, ...]


@cache
def answer(count: int) -> Answer:
    """The answer of `count` tokens, one of LENGTHS."""
    said = tokens(count)
    usage = {"prompt_tokens": _PROMPT_TOKENS, "completion_tokens": count, "total_tokens": _PROMPT_TOKENS + count}
    about = {"id": "chatcmpl-bench", "created": 1, "model": "m"}
    message = {"role": "assistant", "content": "".join(said)}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    whole = _json({**about, "object": "chat.completion", "choices": [choice], "usage": usage})
    about["object"] = "chat.completion.chunk"
    deltas = [{"role": "assistant", "content": ""}, *({"content": text} for text in said), {}]
    finishes = [None] * (len(deltas) - 1) + ["stop"]
    chunks = [
        {**about, "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]}
        for delta, finish in zip(deltas, finishes, strict=True)
    ]
    sent = [_json(chunk) for chunk in (*chunks, {**about, "choices": [], "usage": usage})]
    framed = [_chunk(b"data: " + data + b"\n\n") for data in (*sent, b"[DONE]")]
    return Answer(
        plain=b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
        % (len(whole), whole),
        stream_head=b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n",
        events=(*framed[:-1], framed[-1] + b"0\r\n\r\n"),
    )


def _json(data: object) -> bytes:
    return json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode()


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)
