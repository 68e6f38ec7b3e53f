"""`python -m loadtests.bench.workers`: measures, prints a table, and writes what it found as JSON."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loadtests.bench.command import STOPPED, as_json, measured, numbers
from loadtests.bench.processor import bound_to
from loadtests.bench.sidebyside import stores
from loadtests.bench.sidebyside.machine import machine
from loadtests.bench.sidebyside.passerelle import passerelle
from loadtests.bench.sidebyside.servers import Contestant
from loadtests.bench.workers.cores import Cores, fits, layout
from loadtests.bench.workers.loads import LoadEnded, loads
from loadtests.bench.workers.report import report, table
from loadtests.bench.workers.turns import Plan, measure

_EXAMPLE = """example:
  python -m loadtests.bench.workers --workers 1,2,4,8 --json workers.json
  python -m loadtests.bench.workers --workers 1,2 --crowded --seconds 0.5    shows on two cores that everything runs
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.bench.workers",
        description="Measures how much more a gateway answers with more workers. docs/performance.md has the method.",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--workers", type=numbers, default=[1, 2, 4, 8], metavar="N,…", help="how many, in turn (1,2,4,8)")
    add("--seconds", type=float, default=Plan.seconds, help="of each measurement (%(default)g)")
    add("--connections-per-worker", type=int, default=16, metavar="N", help="that ask at once (%(default)d)")
    add("--loads", type=int, metavar="K", help="processes of callers; default: one on each core that is left")
    add("--ledger", choices=("sqlite", "postgres"), help="default: PostgreSQL if there is one, else SQLite")
    add("--crowded", action="store_true", help="also measure what the cores are too few for: to see that it runs")
    add("--json", type=Path, metavar="FILE", help="write the figures there as well")
    return parser


@dataclass(frozen=True)
class Kept:
    """Where limits and ledger are: `state` for the configuration, `processes` of the stores that are the benchmark's own."""

    state: Mapping[str, str]
    ledger: str
    processes: Collection[int]


@contextlib.contextmanager
def _kept(ledger: str | None, cores: Sequence[int]) -> Iterator[Kept]:
    """Redis and the ledger's database, started on these cores unless the environment names some; raises NoStore."""
    before = bound_to(cores)
    with contextlib.ExitStack() as stack:
        with stores.on_core(*cores):
            state = {"redis_url": stack.enter_context(stores.redis()), "redis_prefix": "passerelle-bench"}
            if ledger != "sqlite":
                try:
                    state["database_url"] = stack.enter_context(stores.postgres())
                except stores.NoStore as missing:
                    if ledger == "postgres":
                        raise
                    sys.stderr.write(f"{missing}: the ledger is on SQLite\n")
            started = bound_to(cores) - before - {os.getpid()}
        yield Kept(state, "postgres" if "database_url" in state else "sqlite", started)


async def run(plan: Plan, cores: Cores, ledger: str | None) -> dict[str, Any]:
    """Measure; what the JSON holds. Raises NoStore, LoadEnded."""
    about = machine(**cores.named())
    with tempfile.TemporaryDirectory() as folder, _kept(ledger, cores.stores) as kept:
        async with loads(cores.callers) as running:
            urls = [load.url for load in running]

            def contestant(turn: int, workers: int) -> Contestant:
                return passerelle(f"turn_{turn}", Path(folder), *urls, on=True, state=kept.state, workers=workers)

            measured = await measure(plan, cores, running, kept.processes, contestant)
    return report(measured, about, kept.ledger)


def _that_fit(workers: Sequence[int], allowed: int, *, crowded: bool) -> list[int]:
    """Those that the cores are enough for, or all; what is left out is said."""
    kept = []
    for number in workers:
        if fits(number, allowed) or crowded:
            kept.append(number)
        else:
            sys.stderr.write(f"{number} workers are left out: {allowed} cores are too few for them and their callers\n")
    if crowded and not all(fits(number, allowed) for number in workers):
        sys.stderr.write(f"more than {allowed} cores have room for: the figures only show that everything runs\n")
    return kept


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the table, write the JSON."""
    options = _parser().parse_args(argv)
    allowed = sorted(os.sched_getaffinity(0))
    workers = _that_fit(options.workers, len(allowed), crowded=options.crowded)
    if not workers:
        sys.stderr.write("nothing can be measured here; --crowded shows that it runs\n")
        return 2
    brief = {name: min(getattr(Plan, name), options.seconds) for name in ("warm", "rehearsal_seconds")}
    plan = Plan(workers, options.seconds, **brief, connections_per_worker=options.connections_per_worker)
    cores = layout(allowed, max(workers), loads=options.loads, crowded=options.crowded)
    try:
        found = measured(run(plan, cores, options.ledger))
    except (stores.NoStore, LoadEnded) as missing:
        sys.stderr.write(f"{missing}\n")
        return 1
    if found is None:
        return STOPPED
    if options.json:
        options.json.write_text(as_json(found), encoding="utf-8")
    sys.stdout.write(table(found))
    return 0 if found["workers"] else 1


if __name__ == "__main__":
    sys.exit(main())
