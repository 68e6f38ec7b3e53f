"""A target: one way to get an answer, as the configuration describes it."""

from __future__ import annotations

import os
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AnyHttpUrl, BaseModel, ConfigDict, Field

Task = Literal["chat", "completions", "embeddings"]
Seconds = Annotated[float, Field(gt=0, le=86_400)]
Count = Annotated[int, Field(gt=0)]
Amount = Annotated[Decimal, Field(ge=0, le=1_000_000, decimal_places=6)]


class BadKeyFile(Exception):
    """No key can be had from a target's file: "holds 'PATH', which ...". Never says what the file holds."""


class Part(BaseModel):
    """A table of the file: unknown keys are errors, values do not change after the start."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Price(Part):
    """What a target costs, for a million tokens, in the operator's own currency; at most six decimal places."""

    input: Amount
    output: Amount


class Steering(Part):
    """What leads a model to French from the start, where the language guard enforces it (docs/steering.md).

    `instruction`: a French sentence at the end of the system message. `bias` is added to the logits of English function words,
    which needs the target's `tokenizer`; 0 is none. `opening`: the answer is begun in French for the model; vLLM alone can go on.
    """

    instruction: bool = True
    bias: Annotated[float, Field(ge=-100, le=0)] = 0
    opening: bool = False


class Target(Part):
    """One way to get an answer: a pool of replicas of one upstream model.

    `api_key_env` names the environment variable that holds the key. An `openai` target whose variable is not set is left
    out of the catalogue; for any other kind that is an error. `api_key_file` names a file with the key instead, as Kubernetes
    and Docker mount secrets; it must be there for any kind. `outside` says that text leaves the operator's machines.
    `trim_start` drops the white space that a plain chat template makes a model begin with.

    `tasks` is what the servers do; by default what one of that kind does. `context_length` in tokens: a request that does not
    fit goes to a target of more; unset, it is what the servers say. `tokenizer` is the served model's tokenizer.json: prompts
    are counted by it, and `template_tokens` more for what the chat template and our instruction add. `images`: messages may hold
    images, each of at most `image_tokens`. Each replica gets at most `concurrency` requests at once (0 is no bound); up to
    `queue_length` more wait for `queue_seconds` at the longest, then the next target is asked.

    `price` is for tokens; `price_per_hour` what one replica's hardware costs while it is switched on.
    """

    kind: Literal["vllm", "openai"]
    urls: Annotated[list[AnyHttpUrl], Field(min_length=1)]
    model: str
    api_key_env: str | None = None
    api_key_file: Path | None = None
    outside: bool = False
    tasks: Annotated[list[Task], Field(min_length=1)] | None = None
    context_length: Count | None = None
    tokenizer: Path | None = None
    template_tokens: Annotated[int, Field(ge=0)] = 64
    images: bool = False
    image_tokens: Count = 2880
    price: Price | None = None
    price_per_hour: Amount | None = None
    concurrency: Annotated[int, Field(ge=0)] = 256
    queue_length: Annotated[int, Field(ge=0)] = 1000
    queue_seconds: Seconds = 30
    trim_start: bool = False
    steering: Steering = Steering()
    defaults: dict[str, Any] = {}

    def does(self, task: Task) -> bool:
        """Whether its servers do `task`: vLLM's generate unless told otherwise, OpenAI's chat models do nothing else."""
        return task in (self.tasks or (("chat", "completions") if self.kind == "vllm" else ("chat",)))

    def key(self) -> str | None:
        """The upstream key, or None where the target has none; read from the environment or the file each time it is asked.

        Raises:
            BadKeyFile: the file cannot be read, or holds no key.
        """
        if self.api_key_file is not None:
            return _key_in(self.api_key_file)
        return os.environ.get(self.api_key_env) or None if self.api_key_env else None


def _key_in(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise BadKeyFile(f"cannot be read: {error.strerror}") from None
    except ValueError:  # not decoded; its message would show a part of the file
        raise BadKeyFile("is not a text file") from None
    if not text:
        raise BadKeyFile("is empty")
    if not text.isascii() or not text.isprintable():  # it could not be sent in a header
        raise BadKeyFile("holds more than one line, or characters that no key has")
    return text
