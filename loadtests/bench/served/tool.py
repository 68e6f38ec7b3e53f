"""vLLM's own benchmark, `vllm bench serve`: run as a program of its own, read from the JSON that it writes."""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from loadtests.bench.served.prompts import lengths, write
from loadtests.bench.sidebyside.servers import Contestant

# It asks nobody but the contestant; what it needs lies on this machine.
_ALONE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
_NOBODY_ASKED = "none"  # the key of a server that wants none
_TAIL = 1500  # characters of what it said


class ToolFailed(Exception):
    """It ended without figures; the message has its last words."""


@dataclass(frozen=True)
class Tool:
    """How it is run. Lengths are tokens; `model` is the name in requests, `tokenizer` a folder.

    `french`: it asks in French, for answers whose lengths differ by up to the share `spread`; else random tokens, and all answers
    are equally long.
    """

    command: Sequence[str]
    model: str
    tokenizer: str
    input_len: int = 256
    output_len: int = 128
    french: bool = True
    spread: float = 0.5


@dataclass(frozen=True)
class Figures:
    """One run. Milliseconds but for `duration` (seconds); `answer_tokens` is the mean of answers, shorter where one was ended."""

    output_tokens_per_s: float
    mean_ttft: float
    p50_ttft: float
    p99_ttft: float
    mean_itl: float
    p50_itl: float
    p99_itl: float
    mean_e2el: float
    answer_tokens: float
    duration: float
    completed: int
    failed: int

    def named(self) -> dict[str, float]:
        """As in the JSON."""
        return {name: round(value, 3) for name, value in asdict(self).items()}


def arguments(tool: Tool, url: str, at_once: int, prompts: int, seed: int, folder: Path) -> list[str]:
    """The whole command; it writes figures.json into `folder`."""
    given = {
        "backend": "openai-chat",
        "endpoint": "/v1/chat/completions",
        "base-url": url,
        "model": tool.model,
        "served-model-name": tool.model,
        "tokenizer": tool.tokenizer,
        **_texts(tool, prompts, seed, folder),
        "num-prompts": prompts,
        "max-concurrency": at_once,
        "seed": seed,
        "percentile-metrics": "ttft,itl,e2el",
        "metric-percentiles": "50,99",
        "result-dir": folder,
        "result-filename": "figures.json",
    }
    options = [word for name, value in given.items() for word in (f"--{name}", str(value))]
    # The model server has the chat's template; the tool would want one of the tokenizer.
    return [*tool.command, *options, "--skip-chat-template", "--ignore-eos", "--save-result", "--disable-tqdm"]


def _texts(tool: Tool, prompts: int, seed: int, folder: Path) -> Mapping[str, Any]:
    """The options that say what is asked."""
    if not tool.french:
        lens = {"random-input-len": tool.input_len, "random-output-len": tool.output_len}
        return {"dataset-name": "random", **lens}
    path = folder / "prompts.jsonl"
    write(path, seed, tool.input_len, lengths(tool.output_len, tool.spread, prompts))
    return {"dataset-name": "custom", "dataset-path": path, "custom-output-len": -1}


async def bench(tool: Tool, contestant: Contestant, at_once: int, prompts: int, seed: int) -> Figures:
    """Run it through a contestant. Raises ToolFailed."""
    # The environment is for its owner alone; arguments are for everybody on the machine.
    key = contestant.headers.get("authorization", f"Bearer {_NOBODY_ASKED}").removeprefix("Bearer ")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        command = arguments(tool, contestant.url, at_once, prompts, seed, folder)
        try:
            said, code = await _run(command, {**os.environ, **_ALONE, "OPENAI_API_KEY": key})
        except OSError as error:
            raise ToolFailed(f"{tool.command[0]} cannot be run: {error.strerror}") from None
        try:
            return read(json.loads((folder / "figures.json").read_text(encoding="utf-8")), prompts)
        except (OSError, ValueError, KeyError):
            raise ToolFailed(f"{' '.join(tool.command)}: exit code {code}, no figures: {said[-_TAIL:]}") from None


async def _run(command: Sequence[str], environment: Mapping[str, str]) -> tuple[str, int]:
    process = await asyncio.create_subprocess_exec(
        *command, env=environment, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return said.decode(errors="replace"), process.returncode or 0


def read(found: Mapping[str, Any], prompts: int) -> Figures:
    """What its JSON says. Raises KeyError."""
    completed = int(found["completed"])
    return Figures(
        output_tokens_per_s=found["output_throughput"],
        **{
            f"{which}_{metric}": found[f"{which}_{metric}_ms"]
            for metric in ("ttft", "itl")
            for which in ("mean", "p50", "p99")
        },
        mean_e2el=found["mean_e2el_ms"],
        answer_tokens=found["total_output_tokens"] / completed if completed else 0.0,
        duration=found["duration"],
        completed=completed,
        failed=int(found.get("failed", prompts - completed)),  # older releases do not count them
    )
