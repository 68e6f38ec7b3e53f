"""Requests and targets for tests of the stages, checked by the same code as real ones."""

import random
from collections.abc import Callable
from typing import Any

import orjson

from gateway.pool import Call, Pool, pool
from gateway.protocol import ChatRequest, parse
from gateway.routing import Ask
from gateway.settings import Routing
from gateway.target import Target

USER = {"role": "user", "content": "Comment suivre mon avis ?"}


def request(**fields: Any) -> ChatRequest:
    """A request for model `m` with one question, and `fields` on top."""
    return parse(orjson.dumps({"model": "m", "messages": [USER], **fields}), max_choices=8)


def target(**fields: Any) -> Target:
    return Target.model_validate({"kind": "vllm", "urls": ["http://127.0.0.1:1/v1"], "model": "up/m", **fields})


def ask(*, firm: bool = False, **fields: Any) -> Ask:
    """An ask of a target with `fields`."""
    to = pool_of(**fields)
    return Ask(to, firm, Call(to.replicas[0]))


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def pool_of(
    size: int = 1,
    /,
    name: str = "local",
    clock: Callable[[], float] | None = None,
    routing: Routing | None = None,
    **of: Any,
) -> Pool:
    """A pool of so many replicas whose chance is the same each time; `of` are fields of its target."""
    urls = [f"http://127.0.0.1:{number + 1}/v1" for number in range(size)]
    chance = random.Random(7)  # noqa: S311  # the same choices each time
    return pool(name, target(urls=urls, **of), routing or Routing(), chance=chance, clock=clock or Clock())
