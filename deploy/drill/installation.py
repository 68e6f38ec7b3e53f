"""An installation as its callers, its operators and its machine see it. Standard library alone."""

from __future__ import annotations

import http.client
import json
import re
import secrets
import subprocess
import time
import tomllib
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PAUSE = 0.25  # seconds between two looks at something that takes its time

QUESTIONS = (
    "Comment déposer un avis sur un service ?",
    "Qui peut lire les remarques que j'envoie ?",
    "Explique en deux phrases à quoi sert un accusé de réception.",
    "Donne trois conseils pour rédiger une réclamation claire.",
)


class Failed(Exception):
    """An entry did not go as the runbook says; the message is the sentence for whoever runs the drill."""


class Skipped(Exception):
    """An entry cannot be tried here; the message says why."""


@dataclass(frozen=True)
class Reply:
    """An answer over HTTP; `headers` by their names in small letters."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON; raises Failed."""
        try:
            return json.loads(self.body)
        except ValueError:
            raise Failed(f"answer {self.status} is not JSON: {self.body[:200]!r}") from None


@dataclass(frozen=True)
class Plan:
    """What the file says. `patience` in seconds; `metrics` are addresses, or commands that print what is there."""

    url: str
    model: str
    folder: Path
    metrics: tuple[str, ...] = ()
    config: Path | None = None
    reload: str | None = None
    patience: float = 120
    replica: Mapping[str, Any] = field(default_factory=dict)
    redis: Mapping[str, Any] = field(default_factory=dict)


def read(path: Path) -> Plan:
    """The plan in a file; raises Failed with the key, what it held and what is allowed."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise Failed(f"{path}: {error}") from None
    known = {"url", "metrics", "model", "config", "reload", "patience", "replica", "redis"}
    for key in sorted(set(table) - known):
        raise Failed(f"{path}: {key} is unknown; allowed are {', '.join(sorted(known))}")
    kinds: dict[str, type | tuple[type, ...]] = {"url": str, "model": str, "config": str, "reload": str}
    for key, kind in {**kinds, "metrics": list, "patience": (int, float)}.items():
        if (key in table or key in ("url", "model")) and not isinstance(table.get(key), kind):
            allowed = {"metrics": "a list of texts", "patience": "a number"}.get(key, "a text")
            raise Failed(f"{path}: {key} is {table.get(key)!r}, but must be {allowed}")
    for name, commands in (("replica", {"hang", "wake"}), ("redis", {"stop", "start"})):
        given = table.get(name)
        if given is not None and not (isinstance(given, dict) and commands <= set(given)):
            raise Failed(f"{path}: [{name}] must have {' and '.join(sorted(commands))}")
    folder = path.absolute().parent
    config = folder / table.pop("config") if "config" in table else None
    metrics = tuple(table.pop("metrics", ())) or (table["url"].rstrip("/") + "/metrics",)
    return Plan(folder=folder, config=config, metrics=metrics, **table)


class Installation:
    """The installation as its callers, its operators and its machine see it."""

    def __init__(self, plan: Plan, key: str) -> None:
        self.plan, self._key = plan, key
        # Straight to the gateway, also where the environment names a proxy for the outside.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def ask(
        self, method: str, path: str, body: Any = None, key: str | None = None, timeout: float | None = None
    ) -> Reply:
        """One request over a connection of its own, with the administrator's key unless another is given."""
        url = path if "://" in path else self.plan.url.rstrip("/") + path
        request = urllib.request.Request(url, None if body is None else json.dumps(body).encode(), method=method)  # noqa: S310
        request.add_header("Content-Type", "application/json")
        request.add_header("Authorization", f"Bearer {key or self._key}")
        try:
            with self._opener.open(request, timeout=timeout or self.plan.patience) as reply:
                return Reply(reply.status, {k.lower(): v for k, v in reply.headers.items()}, reply.read())
        except urllib.error.HTTPError as error:
            with error:
                return Reply(error.code, {k.lower(): v for k, v in error.headers.items()}, error.read())
        except (OSError, http.client.HTTPException) as error:
            raise Failed(f"{method} {url}: {error}") from None

    def must(self, status: int, method: str, path: str, body: Any = None) -> Any:
        """The answer's JSON where it has this status; raises Failed otherwise."""
        reply = self.ask(method, path, body)
        if reply.status != status:
            raise Failed(f"{method} {path} answered {reply.status}: {reply.body[:300].decode(errors='replace')}")
        return reply.json()

    def chat(self, text: str = QUESTIONS[0], key: str | None = None) -> Reply:
        """One short answer of the model."""
        message = {"role": "user", "content": text}
        return self.ask(
            "POST", "/v1/chat/completions", {"model": self.plan.model, "max_tokens": 64, "messages": [message]}, key
        )

    def stream(self, key: str) -> str:
        """A streamed answer, whole, as it came over the wire."""
        body = {"model": self.plan.model, "max_tokens": 256, "stream": True}
        messages = [{"role": "user", "content": QUESTIONS[3]}]
        return self.ask("POST", "/v1/chat/completions", {**body, "messages": messages}, key).body.decode()

    def troubled(self) -> set[str]:
        """The replicas that some gateway takes for down, or whose breaker is not closed."""
        pattern = re.compile(r"^passerelle_replica_(?:down|state)\{([^}]*)\} (?!0(?:\.0)?$)", re.MULTILINE)
        found: set[str] = set()
        for where in self.plan.metrics:
            text = self.ask("GET", where).body.decode() if "://" in where.split()[0] else self.run(where)
            found |= {re.sub(r',?pid="\d+"', "", labels) for labels in pattern.findall(text)}
        return found

    def untroubled(self) -> bool:
        """Whether no replica is in trouble, after a few callers: an open breaker closes by a request that is answered."""
        for text in QUESTIONS:  # how they fare is not looked at here
            self.chat(text)
        return not self.troubled()

    def run(self, command: str) -> str:
        """One of the operator's commands and what it prints; raises Failed when it fails."""
        done = subprocess.run(command, shell=True, cwd=self.plan.folder, capture_output=True, text=True, check=False)  # noqa: S602
        if done.returncode != 0:
            raise Failed(f"`{command}` ended with {done.returncode}: {(done.stderr or done.stdout).strip()[-300:]}")
        return done.stdout

    def until(self, true: Callable[[], bool], what: str, seconds: float | None = None) -> float:
        """Look until it is true; how long that took. Raises Failed when it takes longer than `seconds` (the patience)."""
        began = time.monotonic()
        while not true():
            if time.monotonic() - began > (seconds or self.plan.patience):
                raise Failed(f"{what} was not seen within {seconds or self.plan.patience:.0f} s")
            time.sleep(PAUSE)
        return time.monotonic() - began

    @contextmanager
    def without(self, take: str, give: str) -> Iterator[None]:
        """What `take` takes away is gone; `give` gives it back afterwards, also where `take` failed or was broken off."""
        try:
            self.run(take)
            yield
        except Failed as error:
            try:
                self.run(give)
            except Failed as also:
                raise Failed(f"{error}; and {also}") from error
            raise
        except BaseException:
            self.run(give)
            raise
        self.run(give)

    @contextmanager
    def tenant(self) -> Iterator[tuple[str, str]]:
        """A tenant of the drill's own with a key; closed afterwards. Yields its name and the key."""
        name = f"drill-{secrets.token_hex(4)}"
        self.must(201, "POST", "/admin/tenants", {"name": name})
        try:
            yield name, self.key(name)[1]
        finally:
            self.must(200, "PATCH", f"/admin/tenants/{name}", {"disabled": True})

    def key(self, tenant: str) -> tuple[str, str]:
        """A new API key of a tenant: its id and the key."""
        made = self.must(201, "POST", "/admin/keys", {"name": "drill", "tenant": tenant, "scopes": ["chat", "models"]})
        return made["id"], made["key"]

    @contextmanager
    def changed(self, change: Callable[[str], str]) -> Iterator[None]:
        """Another configuration, read by the gateways; the old one, byte for byte, afterwards."""
        if self.plan.config is None or self.plan.reload is None:
            raise Skipped("config or reload is not given")
        before = self.plan.config.read_bytes()
        try:
            self.plan.config.write_bytes(change(before.decode()).encode())
            self.run(self.plan.reload)
            yield
        finally:
            self.plan.config.write_bytes(before)
            self.run(self.plan.reload)
