"""A served model as judge of what the moderation's score alone leaves in doubt (Zheng et al., 2023, arXiv:2306.05685).

It is asked for one of two words, which vLLM's structured outputs hold it to. Whatever goes wrong, the text is not judged.
"""

from __future__ import annotations

import asyncio
from typing import Final

import orjson

from gateway.errors import GatewayError
from gateway.failure import Failure
from gateway.pool import Call
from gateway.routing import Catalogue
from gateway.spans import UNSEEN, Span
from gateway.upstream import Upstream

_LONGEST: Final = 2000  # characters of a text that are judged
_YES: Final = "oui"
_INSTRUCTION: Final = (
    "Tu es modérateur. Le message suivant contient-il une insulte, de la haine, une menace ou du harcèlement envers des "
    "personnes ? La colère d'un client contre un produit ou un service n'en est pas. Réponds par oui ou par non."
)


class NotJudged(Exception):
    """The judge gave no verdict; the message is why, in a word."""


class Judge:
    """Asks the targets of the catalogue."""

    def __init__(self, catalogue: Catalogue, upstream: Upstream) -> None:
        self._catalogue, self._upstream = catalogue, upstream

    async def abusive(self, text: str, *, target: str, seconds: float, request_id: str, span: Span = UNSEEN) -> bool:
        """Whether the judge takes a text for abuse; raises NotJudged, after `seconds` at the latest. `span` is its step."""
        pool = self._catalogue.pools.get(target)
        replica = pool.choose() if pool else None
        if pool is None or replica is None:
            raise NotJudged("unavailable")
        body = orjson.dumps(
            {
                "model": pool.target.model,
                "messages": [
                    {"role": "system", "content": _INSTRUCTION},
                    {"role": "user", "content": text[:_LONGEST]},
                ],
                "structured_outputs": {"choice": [_YES, "non"]},
                "max_tokens": 8,
                "temperature": 0.0,
            }
        )
        try:
            with Call(replica) as call:
                async with asyncio.timeout(seconds):
                    answer = await self._upstream.whole(
                        f"{replica.url}/chat/completions",
                        pool.key,
                        body,
                        request_id,
                        span.headers(outside=pool.target.outside),
                    )
                call.begun()
            verdict = str(answer["choices"][0]["message"]["content"]).strip().lower()
        except TimeoutError:
            raise NotJudged("timeout") from None
        except (Failure, GatewayError):
            raise NotJudged("failed") from None
        except (KeyError, IndexError, TypeError):
            raise NotJudged("malformed") from None
        if verdict not in (_YES, "non"):
            raise NotJudged("malformed")
        return verdict == _YES
