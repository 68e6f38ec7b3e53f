"""A plan for a reader."""

from __future__ import annotations

import math
import shlex

from serving.plan import Plan
from serving.setting import Setting, gib
from serving.throughput import MOST_MEASURED


def describe(plan: Plan) -> str:
    """What and where, each setting with its reason, memory by part, what to expect, the command."""
    variables = " ".join(f"{name}={value}" for name, value in plan.environment.items())
    lines = [
        f"{plan.served_name} on {plan.machine or plan.device}, {plan.context_length} tokens of context, at {plan.base_url}",
        f"licence: {plan.licence}",
        "",
        *_table(plan.settings),
        *_idle(plan),
        "",
        *_memory(plan),
        *_expected(plan),
        "would run:",
        f"  {variables} \\",
        f"  {shlex.join(plan.argv)}",
    ]
    return "\n".join(lines)


def _idle(plan: Plan) -> list[str]:
    """What of the machine such a plan leaves alone."""
    sizes = [int(s.value) for s in plan.settings if s.name in ("--tensor-parallel-size", "--pipeline-parallel-size")]
    idle = plan.gpus - math.prod(sizes)
    if plan.device != "cuda" or idle <= 0:
        return []
    replicas = plan.gpus // math.prod(sizes)
    use = (
        f": `passerelle up --replicas {replicas}` serves on {replicas * math.prod(sizes)} of them"
        if replicas > 1
        else ""
    )
    return ["", f"{idle} of {plan.gpus} GPUs stay idle{use}"]


def _table(settings: tuple[Setting, ...]) -> list[str]:
    names = max(len(setting.name) for setting in settings)
    # A long value, such as a path, does not push all reasons to the right.
    values = max(len(setting.value) for setting in settings if len(setting.value) <= 24)
    rows = [("setting", "value", "reason"), *((s.name, s.value, s.reason) for s in settings)]
    return [f"{name:<{names}}  {value:<{values}}  {reason}" for name, value, reason in rows]


def _memory(plan: Plan) -> list[str]:
    if not plan.memory:
        return ["memory: unknown, since the model's dimensions are: fetch its config.json first", ""]
    whose = "of the fullest GPU" if plan.device == "cuda" else "of this machine"
    return [f"memory {whose}:", *(f"  {part:<28}{gib(size):>10}" for part, size in plan.memory.items()), ""]


def _expected(plan: Plan) -> list[str]:
    expected = plan.expected
    if not expected.kv_tokens:
        return []
    held = ", ".join(f"{number:,} of {length} tokens" for length, number in expected.conversations.items())
    lines = [f"the cache holds {expected.kv_tokens:,} tokens; conversations at once: {held}"]
    if expected.throughput:
        rates = ", ".join(f"{rate:,.0f} at {number}" for number, rate in expected.throughput.items())
        lines.append(f"output tokens/s expected (256 of prompt, 128 of answer; conversations at once): {rates}")
        if max(expected.throughput.values()) > MOST_MEASURED:
            lines.append(f"nothing above {MOST_MEASURED:,} was measured")
    return [*lines, ""]
