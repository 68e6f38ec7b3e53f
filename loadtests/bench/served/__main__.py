"""`python -m loadtests.bench.served`: measures, prints a table, and writes what it found as JSON."""

from __future__ import annotations

import argparse
import contextlib
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import aiohttp

from loadtests.bench.command import STOPPED, as_json, measured, numbers
from loadtests.bench.served.contestants import NAMES, TRIPPED, TRIPPED_BY_RANDOM, USUAL, makers
from loadtests.bench.served.report import report, table
from loadtests.bench.served.tool import Tool
from loadtests.bench.served.turns import Plan, measure
from loadtests.bench.sidebyside import rivals
from loadtests.bench.sidebyside.machine import machine
from loadtests.bench.sidebyside.passerelle import GUARDS
from loadtests.bench.sidebyside.servers import Contestant, NotStarted, Server, start

_EXAMPLE = """example:
  python -m loadtests.bench.served --vllm http://127.0.0.1:8001/v1 --model falcon-7b-instruct --tokenizer /models/falcon-7b \\
      --bench ".venv-vllm/bin/vllm bench serve" --twice --json served.json
"""


class NoModel(Exception):
    """No vLLM there, or not this model; the message says what is."""


async def _served(vllm: str, model: str) -> None:
    """See that the model is there. Raises NoModel."""
    try:
        async with aiohttp.ClientSession() as session, session.get(f"{vllm}/models") as answer:
            names = [entry["id"] for entry in (await answer.json())["data"]]
    except (aiohttp.ClientError, TimeoutError, ValueError, KeyError, TypeError) as error:
        raise NoModel(f"no vLLM at {vllm}: {error or type(error).__name__}") from None
    if model not in names:
        raise NoModel(f"{vllm} serves {', '.join(names)}, and not {model}")


@contextlib.contextmanager
def _started(names: Sequence[str], makers: Mapping[str, Callable[[], Contestant]]) -> Iterator[list[Server]]:
    """Those that can be started, not yet ready; what is missing is said."""
    servers: list[Server] = []
    try:
        for name in names:
            try:
                servers.append(start(makers[name]()))
            except (rivals.NotInstalled, OSError) as missing:
                sys.stderr.write(f"{name} is left out: {missing}\n")
        yield servers
    finally:
        for server in servers:
            server.end()
        for server in servers:
            server.close()


async def _ready(servers: Sequence[Server]) -> list[Server]:
    """Those that answer, halted."""
    running = []
    for server in servers:
        try:
            await server.ready()
        except NotStarted as problem:
            sys.stderr.write(f"{server.contestant.name} is left out: {problem}\n")
            continue
        server.halt()
        running.append(server)
    return running


async def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure; what the JSON holds. Raises NoModel."""
    vllm = options.vllm.rstrip("/").removesuffix("/v1") + "/v1"
    await _served(vllm, options.model)
    french = options.texts == "french"
    annotating = options.annotate if options.annotate is not None else list(TRIPPED if french else TRIPPED_BY_RANDOM)
    tool = Tool(
        shlex.split(options.bench),
        options.model,
        options.tokenizer,
        options.input_len,
        options.output_len,
        french,
        options.spread,
    )
    plan = Plan(options.at_once, options.seed, options.prompts, twice=options.twice)
    about = machine(litellm=options.litellm)
    with tempfile.TemporaryDirectory() as folder:
        ways = makers(
            Path(folder),
            vllm,
            options.model,
            annotating=annotating,
            redis=options.redis,
            litellm=options.litellm,
        )
        with _started(options.only, ways) as servers:
            found = await measure(await _ready(servers), tool, plan)
    asked = {name: getattr(options, name) for name in ("model", "texts", "input_len", "output_len", "spread")}
    return report(found, about, {**asked, "annotating": annotating, "limits": "redis" if options.redis else "memory"})


def _chosen(known: Sequence[str]) -> Callable[[str], list[str]]:
    def read(text: str) -> list[str]:
        chosen = {name for name in text.split(",") if name}
        if unknown := chosen - set(known):
            raise argparse.ArgumentTypeError(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(known)}")
        return [name for name in known if name in chosen]

    return read


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.bench.served",
        description="Measures what a gateway costs in front of a running vLLM. docs/performance.md has the method.",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--vllm", required=True, metavar="URL", help="where it answers, as http://127.0.0.1:8001/v1")
    add("--model", required=True, metavar="NAME", help="the name that vLLM serves it by; the gateways publish the same")
    add("--tokenizer", required=True, metavar="FOLDER", help="with the model's tokenizer, for the tool that asks")
    add("--bench", default="vllm bench serve", metavar="COMMAND", help="the tool; default: %(default)s")
    add(
        "--at-once",
        type=numbers,
        default=[1, 16, 64, 256, 512],
        metavar="N,…",
        help="requests at once (1,16,64,256,512)",
    )
    add(
        "--prompts", type=int, metavar="N", help="of each run; default: 4 for each at once, 2 for the most, 32 at least"
    )
    add("--input-len", type=int, default=Tool.input_len, metavar="N", help="tokens of a prompt (%(default)d)")
    add(
        "--texts",
        choices=("french", "random"),
        default="french",
        help="what is asked: questions, or random tokens (french)",
    )
    add(
        "--spread",
        type=float,
        default=Tool.spread,
        metavar="SHARE",
        help="by which French answers' lengths differ (%(default)g)",
    )
    add("--output-len", type=int, default=Tool.output_len, metavar="N", help="tokens of an answer (%(default)d)")
    add(
        "--only",
        type=_chosen(NAMES),
        default=list(USUAL),
        metavar="NAME,…",
        help=f"of {','.join(NAMES)}; default: all but passerelle_off",
    )
    add("--twice", action="store_true", help="all of it once more, in mirrored order; the means are shown")
    add(
        "--annotate",
        type=_chosen(GUARDS),
        metavar="GUARD,…",
        help=f"guards that judge and let pass, since the texts trip them; default: {','.join(TRIPPED)}, with random prompts "
        f"{','.join(TRIPPED_BY_RANDOM)}",
    )
    add("--redis", metavar="URL", help="where the gateway's limits are kept; default: in memory")
    add("--litellm", type=Path, default=rivals.LITELLM, metavar="PATH", help="its program; default: of .venv-litellm")
    add("--seed", type=int, default=int(time.time()), metavar="N", help="of the first run; default: by the clock")
    add("--json", type=Path, metavar="FILE", help="write the figures there as well")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the table, write the JSON."""
    options = _parser().parse_args(argv)
    try:
        found = measured(run(options))
    except NoModel as missing:
        sys.stderr.write(f"{missing}\n")
        return 2
    if found is None:
        return STOPPED
    if options.json:
        options.json.write_text(as_json(found), encoding="utf-8")
    sys.stdout.write(table(found))
    return 0 if found["lines"] else 1


if __name__ == "__main__":
    sys.exit(main())
