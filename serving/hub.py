"""Models that the Hugging Face hub's client has already fetched to this machine. Nothing is asked over the network."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path


def cache_folder(environment: Mapping[str, str] | None = None) -> Path:
    """Where the hub's client keeps models: $HF_HUB_CACHE, else $HF_HOME/hub, else ~/.cache/huggingface/hub."""
    values = os.environ if environment is None else environment
    if values.get("HF_HUB_CACHE"):
        return Path(values["HF_HUB_CACHE"]).expanduser()
    home = values.get("HF_HOME") or f"{values.get('XDG_CACHE_HOME') or '~/.cache'}/huggingface"
    return Path(home).expanduser() / "hub"


def cached_folder(model: str, environment: Mapping[str, str] | None = None) -> Path | None:
    """The folder of `model` (owner/name) at the revision `main`, else at its newest one; None without a `config.json`."""
    folder = cache_folder(environment) / f"models--{model.replace('/', '--')}"
    main = folder / "refs" / "main"
    snapshots = folder / "snapshots"
    wanted = [snapshots / main.read_text(encoding="utf-8").strip()] if main.is_file() else []
    others = sorted(snapshots.glob("*/"), key=lambda path: path.stat().st_mtime, reverse=True)
    return next((found for found in (*wanted, *others) if (found / "config.json").is_file()), None)
