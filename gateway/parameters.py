"""What becomes of each field that the OpenAI API reference documents: acted on or passed through, or refused by its name.

A field that a model server would pass over in silence, or that would carry text past the guards, is worse than an error. Fields
of no reference pass through untouched: model servers have many of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from gateway.errors import InvalidRequest

# "Create chat completion": passed on as they come, but for those that `protocol` acts on.
CHAT: Final = frozenset(
    "frequency_penalty logit_bias logprobs max_completion_tokens max_tokens messages metadata modalities model n "
    "parallel_tool_calls prediction presence_penalty prompt_cache_key prompt_cache_options prompt_cache_retention "
    "reasoning_effort response_format safety_identifier seed service_tier stop store stream stream_options temperature "
    "tool_choice tools top_logprobs top_p user verbosity".split()
)
# "Create completion".
COMPLETIONS: Final = frozenset(
    "best_of echo frequency_penalty logit_bias logprobs max_tokens model n presence_penalty prompt seed stop stream "
    "stream_options suffix temperature top_p user".split()
)
# "Create embeddings".
EMBEDDINGS: Final = frozenset("dimensions encoding_format input model user".split())


class Refusal(NamedTuple):
    """Which values of a field are refused, and what the caller is told."""

    refuses: Callable[[Any], bool]
    reason: str


def _any(_: Any) -> bool:
    return True


def _beyond_text(value: Any) -> bool:
    return bool(value != ["text"])


def _over_one(value: Any) -> bool:
    return bool(value != 1)


def _unread(value: Any) -> bool:
    """Switches and numbers steer a chat template; texts would come into the prompt past the guards."""
    return not isinstance(value, dict) or not all(isinstance(entry, bool | int | float) for entry in value.values())


# vLLM's own: each of them puts a text before the model that no guard has read, or reaches into the server.
_BEHIND_THE_GUARDS: Final = {
    "documents": Refusal(_any, "no guard would read them: put them into a message"),
    "chat_template": Refusal(_any, "the template is the operator's to choose"),
    "chat_template_kwargs": Refusal(_unread, "only switches and numbers are, since no guard would read a text"),
    "prompt_embeds": Refusal(_any, "no guard can read vectors"),
    "kv_transfer_params": Refusal(_any, "where a model keeps its cache is not the caller's to choose"),
}
REFUSED_OF_CHAT: Final = {
    **_BEHIND_THE_GUARDS,
    "audio": Refusal(_any, "answers are text: nobody checks what is spoken"),
    "modalities": Refusal(_beyond_text, 'answers are text: only ["text"] is served'),
    "functions": Refusal(_any, "functions were replaced by tools: send tools"),
    "function_call": Refusal(_any, "functions were replaced by tools: send tool_choice"),
    "moderation": Refusal(_any, "this service has guards of its own, and they cannot be configured by a request"),
    "store": Refusal(bool, "no answer is stored here"),
    "web_search_options": Refusal(_any, "models served here do not search the web"),
    "priority": Refusal(_any, "the order of requests is not the caller's to choose"),
}
REFUSED_OF_COMPLETIONS: Final = {
    **_BEHIND_THE_GUARDS,
    "best_of": Refusal(_over_one, "candidates that nobody sees are not generated: send n"),
    "echo": Refusal(bool, "the prompt is not repeated in the answer"),
    "priority": REFUSED_OF_CHAT["priority"],
}
REFUSED_OF_EMBEDDINGS: Final = {"priority": REFUSED_OF_CHAT["priority"]}


def check(raw: dict[str, Any], refused: dict[str, Refusal]) -> None:
    """Raise InvalidRequest, naming the field, if one of `refused` is set to a value that is not served."""
    for name, refusal in refused.items():
        value = raw.get(name)
        if value is not None and refusal.refuses(value):
            raise InvalidRequest(f"{name} is not served: {refusal.reason}.", param=name)
