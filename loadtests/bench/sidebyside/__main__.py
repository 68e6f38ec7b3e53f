"""`python -m loadtests.bench.sidebyside`: measures, and writes bench.json, a table and a plot."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from loadtests.bench.command import STOPPED, as_json, measured
from loadtests.bench.sidebyside import rivals, stores
from loadtests.bench.sidebyside.fake import fake
from loadtests.bench.sidebyside.figures import NAMES, report
from loadtests.bench.sidebyside.machine import cores, machine
from loadtests.bench.sidebyside.passerelle import passerelle
from loadtests.bench.sidebyside.plot import plot
from loadtests.bench.sidebyside.servers import Contestant, NotStarted, Server, start
from loadtests.bench.sidebyside.table import table
from loadtests.bench.sidebyside.turns import QUICK, Plan, measure

_EXAMPLE = """example:
  python -m loadtests.bench.sidebyside --quick
  python -m loadtests.bench.sidebyside --only bare,passerelle_on --seconds 2 --json /dev/stdout
"""
_BUSY = 0.5  # a load average above which figures are to be distrusted


def _makers(folder: Path, upstream: str, core: int, stack: contextlib.ExitStack) -> dict[str, Callable[[], Contestant]]:
    def full() -> Contestant:
        with stores.on_core(core):
            state = {
                "database_url": stack.enter_context(stores.postgres()),
                "redis_url": stack.enter_context(stores.redis()),
                "redis_prefix": "passerelle-bench",
            }
        return passerelle("passerelle_full", folder, upstream, on=True, state=state)

    return {
        "direct": lambda: Contestant("direct", upstream.removesuffix("/v1")),
        "bare": lambda: rivals.bare(upstream, collect=False),
        "bare_collecting": lambda: rivals.bare(upstream, collect=True),
        "passerelle_off": lambda: passerelle("passerelle_off", folder, upstream, on=False),
        "passerelle_on": lambda: passerelle("passerelle_on", folder, upstream, on=True),
        "passerelle_full": full,
        "litellm": lambda: rivals.litellm(folder, upstream),
        "portkey": lambda: rivals.portkey(upstream),
    }


@contextlib.contextmanager
def _started(names: Sequence[str], folder: Path, upstream: str, core: int) -> Iterator[list[Server]]:
    """Those that can be started, not yet ready; what is missing is said. `core` is for what else they need."""
    with contextlib.ExitStack() as stack:
        makers = _makers(folder, upstream, core, stack)
        servers: list[Server] = []
        for name in reversed(names):  # the slowest to start come last in the list
            try:
                server = start(makers[name]())
            except (rivals.NotInstalled, stores.NoStore) as missing:
                sys.stderr.write(f"{name} is left out: {missing}\n")
                continue
            stack.callback(server.close)
            servers.insert(0, server)
        try:
            yield servers
        finally:
            for server in servers:
                server.end()


async def _ready(servers: Sequence[Server], core: int) -> list[Server]:
    """Those that answer, on their core and halted."""
    sys.stderr.write(f"starting {len(servers)} contestants\n")
    found = await asyncio.gather(*(server.ready() for server in servers), return_exceptions=True)
    running = []
    for server, problem in zip(servers, found, strict=True):
        if isinstance(problem, NotStarted):
            sys.stderr.write(f"{server.contestant.name} is left out: {problem}\n")
        elif problem is not None:
            raise problem
        else:
            running.append(server)
            server.pin(core)
        server.halt()
    return running


async def run(names: Sequence[str], plan: Plan) -> dict[str, Any]:
    """Measure; what bench.json holds."""
    servers_core, callers_core = cores()
    about = machine(server_core=servers_core, callers_core=callers_core)
    if about["load_average"] > _BUSY:
        sys.stderr.write(f"this machine is busy (load {about['load_average']}): figures taken now say little\n")
    with tempfile.TemporaryDirectory() as folder:
        async with fake() as upstream:
            with _started(names, Path(folder), upstream.url, callers_core) as servers:
                running = await _ready(servers, servers_core)
                os.sched_setaffinity(0, {callers_core})
                measured, rate = await measure(running, upstream, plan)
    return report(measured, rate, about)


def _names(text: str) -> list[str]:
    chosen = set(text.split(","))
    if unknown := chosen - set(NAMES):
        raise argparse.ArgumentTypeError(f"no contestant: {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    return [name for name in NAMES if name in chosen | {"direct"}]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.bench.sidebyside",
        description="Measures the gateway beside a bare pass-through and other gateways. docs/performance.md has the method.",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="16 tokens and 16 connections alone, in under 90 seconds")
    parser.add_argument("--only", type=_names, default=list(NAMES), metavar="NAME,…", help="these, and direct")
    parser.add_argument("--seconds", type=float, help="of each measurement of requests a second")
    parser.add_argument("--arrivals-seconds", type=float, help="of each measurement at the fixed rate")
    parser.add_argument("--json", type=Path, default=Path("bench.json"), metavar="FILE", help="default: %(default)s")
    parser.add_argument(
        "--table", type=Path, default=Path("build/bench.md"), metavar="FILE", help="default: %(default)s"
    )
    parser.add_argument(
        "--plot", type=Path, default=Path("build/bench.svg"), metavar="FILE", help="default: %(default)s"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, write the three files, print the table."""
    options = _parser().parse_args(argv)
    given = {name: getattr(options, name) for name in ("seconds", "arrivals_seconds") if getattr(options, name)}
    plan = dataclasses.replace(QUICK if options.quick else Plan(), **given)
    found = measured(run(options.only, plan))
    if found is None:
        return STOPPED
    written = {options.json: as_json(found), options.table: table(found), options.plot: plot(found)}
    for path, text in written.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    sys.stdout.write(table(found))
    sys.stderr.write(f"written: {', '.join(str(path) for path in written)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
