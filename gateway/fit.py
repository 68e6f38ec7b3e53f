"""Which of a model's targets can take a request: by what it asks for, its images, and its length.

How long a prompt is in tokens only the model's own tokenizer knows. What is certain without it decides here; between that and
the context length the model server is the judge, and its refusal sends the request on to a target of more (`Ladder.too_long`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from gateway.errors import ContextLengthExceeded, InvalidRequest, WrongTask
from gateway.pool import Pool
from gateway.protocol import TEXTS, Request

# By Falcon's tokenizer French prose has 3.9 bytes a token and English 4.5; of 600 short texts one had more than 6.4.
_BYTES_OF_A_TOKEN: Final = 6.5
# A run of one character may be a single token however long it is: it counts as that one character.
_RUN: Final = re.compile(r"(.)\1{3,}", re.DOTALL)


def fitting(pools: Iterable[Pool], request: Request) -> tuple[Pool, ...]:
    """The pools, in order, that can take `request`.

    Raises:
        WrongTask: none does what it asks for.
        InvalidRequest: none takes its images.
        ContextLengthExceeded: it is certainly too long for every one of them.
    """
    doing = tuple(pool for pool in pools if pool.target.does(request.task))
    if not doing:
        raise WrongTask(f"The model {request.model[:80]!r} does not serve {request.task}.", param="model")
    if request.task == "embeddings":  # vectors of another model are no replacement
        doing = tuple(pool for pool in doing if pool.target.model == doing[0].target.model)
    return _long_enough(_seeing(doing, request), request)


def least_tokens(request: Request) -> int:
    """How many tokens the prompt has at the very least: a conversation's as a whole, else the longest text's."""
    texts = [_RUN.sub(r"\1", text) for text in request.texts()]
    sizes = [len(text.encode()) for text in texts] or [0]
    return int((sum(sizes) if request.task == "chat" else max(sizes)) / _BYTES_OF_A_TOKEN)


def _long_enough(pools: tuple[Pool, ...], request: Request) -> tuple[Pool, ...]:
    wanted = request.max_tokens or 1
    lengths = [pool.context_length for pool in pools]
    known = [length for length in lengths if length is not None]
    # No token is less than a byte: most requests are short enough by far, and need no closer look.
    if not known or sum(len(text) for text in request.texts()) * 4 + wanted <= min(known):
        return pools
    tokens = least_tokens(request)
    taking = tuple(
        pool for pool, length in zip(pools, lengths, strict=True) if length is None or tokens + wanted <= length
    )
    if not taking:
        asked = f" and {request.max_tokens} for the answer" if request.max_tokens else ""
        raise ContextLengthExceeded(
            f"This model's maximum context length is {max(known)} tokens. However, you requested at least {tokens} tokens "
            f"for the prompt{asked}: shorten one of them.",
            param="max_tokens" if wanted > max(known) else TEXTS[request.task],
        )
    return taking


def _seeing(pools: tuple[Pool, ...], request: Request) -> tuple[Pool, ...]:
    images = list(request.images())
    if not images:
        return pools
    seeing = tuple(pool for pool in pools if pool.target.images)
    if not seeing:
        raise InvalidRequest(f"The model {request.model[:80]!r} takes no images.", param="messages")
    # A model server fetches an address from inside the operator's network, where nobody outside should reach anything.
    inline = all(url.startswith("data:") for url in images)
    allowed = tuple(pool for pool in seeing if inline or pool.target.outside)
    if not allowed:
        raise InvalidRequest("Images must be sent as data: URLs; addresses are not fetched.", param="messages")
    return allowed
