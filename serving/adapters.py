"""Fine-tuned models beside their base: LoRA adapters, each published under a model name of its own.

vLLM reserves room for every adapter at the largest rank, so the rank is read from the adapters where their folders are here.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from serving.errors import ServingError

# vLLM's MaxLoRARanks (vllm/config/lora.py): the only values --max-lora-rank takes; 16 is its default.
RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
DEFAULT_RANK = 16

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]*")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


class AdapterError(ServingError):
    """An adapter cannot be served; the sentence names it, what is wrong and what is allowed."""


def parse_adapter(text: str) -> tuple[str, str]:
    """`NAME=FOLDER` of the command line as (name, folder or hub id). Raises AdapterError."""
    name, equals, source = text.partition("=")
    if not (equals and source and _NAME.fullmatch(name)):
        raise AdapterError(
            f"--adapter {text}: must be NAME=FOLDER or NAME=owner/name, the name of letters, digits and ._/-"
        )
    return name, source


def check_adapters(adapters: tuple[tuple[str, str], ...], served_name: str) -> tuple[tuple[str, str], ...]:
    """The adapters with absolute folders; hub ids stay. Raises AdapterError."""
    names = [name for name, _ in adapters]
    for name in names:
        if name == served_name or names.count(name) > 1:
            raise AdapterError(
                f"--adapter {name}=…: the name is taken; every adapter and the model itself need their own"
            )
    return tuple((name, _place(name, source)) for name, source in adapters)


def largest_rank(adapters: tuple[tuple[str, str], ...]) -> int:
    """The smallest rank vLLM allows that holds every adapter; DEFAULT_RANK where none can be read. Raises AdapterError."""
    read = [rank_of(name, Path(source)) for name, source in adapters if Path(source).is_dir()]
    most = max(read, default=DEFAULT_RANK)
    if most > RANKS[-1]:
        raise AdapterError(f"--adapter: rank {most} is more than vLLM serves; allowed are 1 to {RANKS[-1]}")
    return next(rank for rank in RANKS if rank >= most)


def rank_of(name: str, folder: Path) -> int:
    """`r` in the folder's adapter_config.json. Raises AdapterError."""
    path = folder / "adapter_config.json"
    try:
        rank = json.loads(path.read_text(encoding="utf-8")).get("r")
    except OSError as error:
        raise AdapterError(
            f"--adapter {name}={folder}: {path.name} cannot be read ({error.strerror}); name the folder "
            "that training wrote"
        ) from error
    except (ValueError, AttributeError) as error:
        raise AdapterError(f"--adapter {name}={folder}: {path.name} is no JSON object") from error
    if not isinstance(rank, int) or rank < 1:
        raise AdapterError(
            f"--adapter {name}={folder}: {path.name} has r = {rank!r}; a LoRA adapter has a positive rank"
        )
    return rank


def _place(name: str, source: str) -> str:
    folder = Path(source).expanduser()
    if folder.is_dir():
        rank_of(name, folder)
        return str(folder.absolute())
    if _HUB_ID.fullmatch(source):
        return source
    raise AdapterError(f"--adapter {name}={source}: no such folder, and no hub id (owner/name)")
