"""What the figures were measured on."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from loadtests.bench.sidebyside.rivals import LITELLM, PORTKEY

_PACKAGES = ("aiohttp", "fastapi", "uvicorn", "uvloop")


def machine(*, litellm: Path = LITELLM, **used: Any) -> dict[str, Any]:
    """Processor, cores and what is `used` of them, system, versions, and how busy it was at the start.

    A quiet machine's load is near 0.
    """
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        **used,
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load_average": round(os.getloadavg()[0], 2),
        "versions": {name: version(name) for name in _PACKAGES} | dict(_rivals(litellm)),
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _rivals(litellm: Path) -> Mapping[str, str]:
    """Versions from the other environments, those that are there."""
    found = {}
    for folder in (litellm.parents[1] / "lib").glob("python*/site-packages/litellm-*.dist-info"):
        found["litellm"] = folder.name.removeprefix("litellm-").removesuffix(".dist-info")
    package = PORTKEY.parents[1] / "package.json"
    if package.exists():
        found["portkey"] = json.loads(package.read_text(encoding="utf-8"))["version"]
    return found


def cores() -> tuple[int, int]:
    """The core of the servers and that of the callers; the same one where there is but one."""
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < 2:
        sys.stderr.write("one core for servers and callers: the figures only show that everything runs\n")
    return allowed[0], allowed[-1]
