"""How many tokens a request may use at most, reckoned before anybody is asked.

A prompt is counted by the target's own tokenizer where it is configured. Where it is not, a token is a byte of UTF-8: no
byte-level BPE and no tokenizer that falls back to bytes makes more of them. What a chat template adds is not known here and has
an allowance. Figures: docs/token-counting.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import orjson

from gateway.protocol import ChatRequest, Request
from gateway.settings import Settings
from gateway.steering import logit_bias
from gateway.target import Target
from gateway.tokenizer import Tokenizer

# ChatML adds 7 tokens a message; what a template adds once is the target's `template_tokens`.
MESSAGE: Final = 16
PART: Final = 2
# What a template says to introduce tools.
TOOLS: Final = 256
# The tokens that begin and end a bare prompt.
PROMPT: Final = 4

# Characters that are counted at once (about a millisecond), in a thread, and not at all: more are reckoned by their bytes.
_INLINE: Final = 1024
_COUNTED: Final = 512 * 1024
_SAMPLE: Final = 4096
_AT_ONCE: Final = 2  # counts in threads, which others need too

# A template may print a schema with a space or a line break beside each of these.
_STRUCTURE: Final = b"{}[],:"
# Fields whose content a model server writes into the prompt, beside the texts; those of a turn are all but these.
_PLAIN: Final = frozenset({"role", "content"})
_SCHEMAS: Final = ("tools", "tool_choice", "response_format", "prediction", "suffix")


class Reckoner:
    """Reckons by the tokenizers that `settings` name; raises BadSettings where one of them cannot be used."""

    def __init__(self, settings: Settings) -> None:
        self.tokenizers: Mapping[Path, Tokenizer] = settings.tokenizers({})
        self._turns = asyncio.Semaphore(_AT_ONCE)

    def replace(self, tokenizers: Mapping[Path, Tokenizer]) -> None:
        """Go on with these tokenizers."""
        self.tokenizers = tokenizers

    async def prompt_tokens(self, target: Target, request: Request) -> int:
        """At most so many tokens the prompt has, as the target's model server will count them; never 0."""
        texts, schemas = [*request.texts()], _schemas(request)
        allowed = _allowance(target, request, len(texts))
        allowed += target.image_tokens * sum(1 for _ in request.images())
        if schemas:
            allowed += 2 * sum(map(schemas.count, _STRUCTURE))
            texts.append(schemas.decode())
        return allowed + await self._most(self._tokenizer(target), texts, chat=request.task == "chat")

    def estimate(self, target: Target, request: Request) -> int:
        """About how many tokens the prompt has, for a model server that does not say; never 0."""
        tokenizer = self._tokenizer(target)
        if tokenizer is None:
            return tokens(request.texts())
        text = "\n".join(request.texts())
        (count,) = tokenizer.counts([text[:_SAMPLE]])
        return max(1, count * len(text) // _SAMPLE if len(text) > _SAMPLE else count)

    def english_bias(self, target: Target) -> Mapping[str, float]:
        """What `logit_bias` the target's steering asks for; none without its tokenizer."""
        tokenizer = self._tokenizer(target)
        if not target.steering.bias or tokenizer is None:
            return {}
        return logit_bias(tokenizer.english(), target.steering.bias)

    def _tokenizer(self, target: Target) -> Tokenizer | None:
        return self.tokenizers.get(target.tokenizer) if target.tokenizer is not None else None

    async def _most(self, tokenizer: Tokenizer | None, texts: list[str], *, chat: bool) -> int:
        size = sum(map(len, texts))
        if tokenizer is None or size > _COUNTED:
            breaks = sum([_breaks(text) for text in texts]) if chat else 0
            return sum([len(text.encode()) for text in texts]) + breaks
        forms = [_forms(text) if chat else {text} for text in texts]
        if size <= _INLINE:
            return _longest(tokenizer, forms)
        async with self._turns:
            return await asyncio.to_thread(_longest, tokenizer, forms)


def _breaks(text: str) -> int:
    """How many characters of it end a line, by Unicode; of CR LF both do."""
    if text.isprintable():  # and none of these is
        return 0
    return len(f"{text}.".splitlines()) - 1 + text.count("\r\n")


def _forms(text: str) -> set[str]:
    """As chat templates write a text: as it is, its lines indented, or folded into one. A word after a space is another token."""
    return {text, "\n ".join(text.splitlines()), " ".join(text.split())}


def _longest(tokenizer: Tokenizer, texts: list[set[str]]) -> int:
    """The tokens of all texts, each in its longest form: a template may write one role's so and another's otherwise."""
    counts = iter(tokenizer.counts([form for forms in texts for form in forms]))
    return sum(max(next(counts) for _ in forms) for forms in texts)


def tokens(texts: Iterable[str]) -> int:
    """An estimate where nobody counts: about four bytes of French prose a token; never zero."""
    return 1 + sum(len(text.encode()) for text in texts) // 4


def _allowance(target: Target, request: Request, texts: int) -> int:
    """For what is written around the texts."""
    if not isinstance(request, ChatRequest):
        return PROMPT * texts
    tools = TOOLS if request.raw.get("tools") else 0
    return target.template_tokens + MESSAGE * texts + PART * len(request.parts) + tools


def _schemas(request: Request) -> bytes:
    """What comes into the prompt beside the texts, as JSON in its longest form; empty where there is nothing."""
    raw = request.raw
    found: list[Any] = [given for name in _SCHEMAS if (given := raw.get(name)) is not None]
    if request.task == "chat":  # calls of tools, names, and whatever else a turn has
        more = (turn for turn in raw["messages"] if not turn.keys() <= _PLAIN)
        found += [{key: turn[key] for key in turn if key not in _PLAIN} for turn in more]
    return orjson.dumps(found, option=orjson.OPT_INDENT_2) if found else b""
