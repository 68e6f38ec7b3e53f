"""What `locust -f` is given: the users, the load shape, the options and the end of the run."""

from __future__ import annotations

import logging
from typing import Any

from locust import events
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment
from locust.runners import WorkerRunner

from loadtests import options
from loadtests.levels import figures
from loadtests.login import Credentials
from loadtests.shape import RampHold
from loadtests.user import ChatUser

__all__ = ["ChatUser", "RampHold"]  # found by locust

log = logging.getLogger("loadtests")


@events.init_command_line_parser.add_listener  # type: ignore[untyped-decorator]  # locust has no type for it
def _options(parser: LocustArgumentParser, **_: Any) -> None:
    options.add(parser)


@events.init.add_listener  # type: ignore[untyped-decorator]  # locust has no type for it
def _check(environment: Environment, **_: Any) -> None:
    """A run that cannot measure anything ends before it begins, in one sentence."""
    Credentials.from_environment()
    asked = environment.parsed_options
    if asked is not None and asked.streamed + asked.plain == 0:
        raise SystemExit("loadtests: --streamed and --plain are both 0, so no question would be asked")


@events.quitting.add_listener  # type: ignore[untyped-decorator]  # locust has no type for it
def _judge(environment: Environment, **_: Any) -> None:
    """The service levels alone decide the exit code; in a distributed run the master's figures are everybody's."""
    if isinstance(environment.runner, WorkerRunner) or environment.parsed_options is None:
        return
    measured = figures(environment.stats.entries.values())
    broken = options.levels(environment.parsed_options).broken(measured)
    if environment.runner is not None and environment.runner.exceptions:
        broken.append("a user stopped with an exception, shown above")
    for sentence in broken:
        log.error("service level broken: %s", sentence)
    if not broken:
        log.info("service levels kept over %d exchanges", measured.exchanges)
    environment.process_exit_code = 1 if broken else 0
