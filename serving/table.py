"""Prints the plans of every card × every profile as the Markdown table of docs/serving.md.

Run as `python -m serving.table`.
"""

from __future__ import annotations

import sys
from pathlib import Path

from serving import profiles
from serving.cards import Card, load_cards
from serving.hardware import Machine
from serving.nearest import machine_of
from serving.plan import Options, Plan, PlanError, make_plan


def plan_for(card: Card, profile: str) -> Plan | None:
    """The plan on one idle card; None when it is refused."""
    found = profiles.find_profile(profile)
    machine = Machine(0, 0, 0, gpus=(machine_of(card).gpu,))
    try:
        return make_plan(machine, found, Options(), Path("python"), found.model)
    except PlanError:
        return None


def cell(plan: Plan | None) -> str:
    """How the weights are held, thousands of tokens in the cache, requests at once, output tokens/s with all of them."""
    if plan is None:
        return "–"
    held = next(s.value.partition("_")[0] for s in plan.settings if s.name == "--quantization")
    held = "16 bits" if held == "none" else held
    return (
        f"{held}, {plan.expected.kv_tokens // 1000:,}k, {plan.sequences}, {max(plan.expected.throughput.values()):,.0f}"
    )


def table() -> str:
    """Cards in the order of their memory, profiles in the order of their size."""
    found = [profiles.find_profile(name) for name in profiles.profile_names()]
    names = [profile.name for profile in sorted(found, key=lambda one: one.known.parameters if one.known else 0)]
    lines = ["| card | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for card in sorted(load_cards(), key=lambda card: card.memory):
        cells = [cell(plan_for(card, name)) for name in names]
        lines.append(f"| {card.name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(table() + "\n")
