"""The entries of the runbook, each as something that is done and looked at. See docs/operations.md."""

from __future__ import annotations

import json
import re
import time
import tomllib
import urllib.parse
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

from deploy.drill.installation import QUESTIONS, Failed, Installation, Skipped

REVOKED_WITHIN = 5.0  # seconds: what docs/threat-model.md promises


def replica(here: Installation) -> str:
    """A replica hangs: nobody notices but the operator; it is left alone, and used again when it is back."""
    if not here.plan.replica:
        raise Skipped("[replica] is not given")
    others = bool(here.plan.replica.get("others", True))
    if trouble := here.troubled():
        raise Failed(f"a replica is in trouble before the drill begins: {', '.join(sorted(trouble))}")
    allowed = {200} if others else {200, 502, 503, 504}

    def slowest() -> float:
        """Four callers at once; how long the slowest waited."""
        began = time.monotonic()
        with ThreadPoolExecutor(len(QUESTIONS)) as pool:
            replies = list(pool.map(here.chat, QUESTIONS))
        for reply in replies:
            if reply.status not in allowed:
                raise Failed(f"a caller was answered {reply.status}: {reply.body[:200].decode(errors='replace')}")
            if reply.status == 503 and "retry-after" not in reply.headers:
                raise Failed("a 503 has no Retry-After")
        return time.monotonic() - began

    waits: list[float] = []
    with here.without(here.plan.replica["hang"], here.plan.replica["wake"]), ThreadPoolExecutor(1) as callers:
        asked = callers.submit(slowest)

        def noticed() -> bool:
            nonlocal asked
            if asked.done():  # whoever hangs may be found by callers alone
                waits.append(asked.result())
                asked = callers.submit(slowest)
            return bool(here.troubled())

        seen = here.until(noticed, "the hung replica in the metrics")
        waits.append(asked.result())
        afterwards = slowest()
    back = here.until(here.untroubled, "the replica's return")
    here.until(lambda: here.chat().status == 200, "an answer after the replica's return")
    told = "every caller answered" if others else "callers told to come back"
    return (
        f"{told}; noticed after {seen:.1f} s (slowest answer {max(waits):.1f} s, then {afterwards:.1f} s); "
        f"back after {back:.1f} s"
    )


def redis(here: Installation) -> str:
    """Redis is away: chats go on, answers say that limits are degraded; then no longer."""
    if not here.plan.redis:
        raise Skipped("[redis] is not given")

    def degraded() -> bool:
        reply = here.chat()
        if reply.status != 200:
            raise Failed(f"a caller was answered {reply.status}: {reply.body[:200].decode(errors='replace')}")
        return "limits" in reply.headers.get("x-passerelle-degraded", "")

    with here.without(here.plan.redis["stop"], here.plan.redis["start"]):
        seen = here.until(degraded, "x-passerelle-degraded: limits")
    back = here.until(lambda: not any(degraded() for _ in range(4)), "the end of x-passerelle-degraded")
    return f"served meanwhile, told after {seen:.1f} s; whole again after {back:.1f} s"


def key(here: Installation) -> str:
    """A key has leaked: revoked, it opens nothing in any worker; the audit says who did it; its successor works."""
    with here.tenant() as (name, _):
        leaked_id, leaked = here.key(name)
        if (status := here.chat(key=leaked).status) != 200:
            raise Failed(f"a new key was answered {status}")
        here.must(200, "DELETE", f"/admin/keys/{leaked_id}")

        def shut() -> bool:
            return {here.ask("GET", "/v1/models", key=leaked).status for _ in range(24)} == {401}

        took = here.until(shut, "401 for the leaked key everywhere", REVOKED_WITHIN)
        audit = here.ask("GET", f"/admin/audit?tenant={urllib.parse.quote(name)}")
        if audit.status != 200 or leaked_id.encode() not in audit.body:
            raise Failed(f"the audit does not tell of the revocation ({audit.status})")
        if (status := here.chat(key=here.key(name)[1]).status) != 200:
            raise Failed(f"the new key was answered {status}")
    return f"shut everywhere after {took:.1f} s, audited, replaced"


def bill(here: Installation) -> str:
    """The bill explodes: the report names who, a limit in the configuration stops them at once and nobody else."""
    with here.tenant() as (name, spender):

        def answered() -> bool:
            reply = here.chat(key=spender)
            if reply.status != 200:
                raise Failed(f"the tenant was answered {reply.status} before it had a limit")
            # An answer that was refused for its language has none.
            return bool(reply.json()["usage"]["completion_tokens"])

        here.until(answered, "an answer to the tenant that it is charged for")

        def reported() -> bool:
            report = here.must(200, "GET", f"/admin/usage?by=tenant&tenant={urllib.parse.quote(name)}")
            return any(row["completion_tokens"] > 0 for row in report["data"])

        seen = here.until(reported, "the tenant's tokens in the report of usage")
        brake = f"\n[limits.tenants.{name}]\ntokens_per_day = 1\n"
        with here.changed(lambda text: text + brake):
            took = here.until(lambda: {here.chat(key=spender).status for _ in range(4)} == {429}, "429 for the tenant")
            if (status := here.chat().status) != 200:
                raise Failed(f"somebody else was answered {status} meanwhile")
        here.until(lambda: {here.chat(key=spender).status for _ in range(4)} == {200}, "200 without the limit")
    return f"in the report after {seen:.1f} s; braked {took:.1f} s after the reload, others served; released"


def drift(here: Installation) -> str:
    """The model drifts to English: what is delivered is French all the same; another target takes over without a stream cut."""
    replies = [here.chat(text) for text in QUESTIONS]
    for reply in replies:
        verdict = re.search(r"language=(\w+)", reply.headers.get("x-passerelle-guards", ""))
        if reply.status != 200 or verdict is None or verdict[1] in {"flagged", "off"}:
            raise Failed(
                f"an answer ({reply.status}) was delivered with {verdict[0] if verdict else 'no verdict'}: "
                "see guards.language.mode"
            )
    repairs = sum(int(reply.headers.get("x-passerelle-repairs", "0")) for reply in replies)
    if here.plan.config is None:
        raise Skipped("config is not given")
    first, order, turned = _turned(here.plan.config.read_text(encoding="utf-8"), here.plan.model)
    with here.tenant() as (_, caller), ThreadPoolExecutor(1) as pool:
        under_way = pool.submit(here.stream, caller)
        with here.changed(lambda _: turned):
            took = here.until(lambda: {_served(here) for _ in range(4)} == {order[0]}, f"answers of {order[0]}")
            if not under_way.result().rstrip().endswith("data: [DONE]"):
                raise Failed(f"a stream was cut by the change: …{under_way.result()[-200:]}")
    here.until(lambda: {_served(here) for _ in range(4)} == {first}, f"answers of {first}")
    return f"{len(replies)} answers held to French ({repairs} repaired); {order[0]} took over after {took:.1f} s, and gave back"


def _served(here: Installation) -> str:
    return here.chat().headers.get("x-passerelle-target", "")


def _turned(text: str, model: str) -> tuple[str, list[str], str]:
    """The first target of a model, the order with the last one first, and the configuration that says so."""
    head = re.search(rf'^\[models\.(?:"{re.escape(model)}"|{re.escape(model)})\]', text, re.MULTILINE)
    line = re.compile(r"^targets\s*=\s*(\[[^\]]*\])", re.MULTILINE).search(text, head.end()) if head else None
    if line is None:
        raise Skipped(f"the configuration has no [models] entry {model} with targets")
    targets: list[str] = tomllib.loads(f"targets = {line[1]}")["targets"]
    if len(targets) < 2:
        raise Skipped(f"{model} has one target: there is nothing to move to")
    order = [targets[-1], *targets[:-1]]
    return targets[0], order, text[: line.start(1)] + json.dumps(order) + text[line.end(1) :]


ENTRIES: Mapping[str, Callable[[Installation], str]] = {
    "replica": replica, "redis": redis, "key": key, "bill": bill, "drift": drift,
}  # fmt: skip
