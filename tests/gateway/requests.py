"""Requests and targets for tests of the stages, checked by the same code as real ones."""

from typing import Any

import orjson

from gateway.protocol import ChatRequest, parse
from gateway.routing import Ask, Pool, Replica
from gateway.settings import Target

USER = {"role": "user", "content": "Comment suivre mon avis ?"}


def request(**fields: Any) -> ChatRequest:
    """A request for model `m` with one question, and `fields` on top."""
    return parse(orjson.dumps({"model": "m", "messages": [USER], **fields}), max_choices=8)


def target(**fields: Any) -> Target:
    return Target.model_validate({"kind": "vllm", "urls": ["http://127.0.0.1:1/v1"], "model": "up/m", **fields})


def ask(*, firm: bool = False, **fields: Any) -> Ask:
    """An ask of a target with `fields`."""
    return Ask(Pool("local", target(**fields), [Replica("http://127.0.0.1:1/v1")]), firm)
