"""What `locust -f` is given: the users, the load shape, the options and the end of the run."""

from __future__ import annotations

import argparse
import logging
import random
import time
from pathlib import Path
from typing import Any

from locust import events
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment
from locust.runners import MasterRunner, WorkerRunner

from loadtests import callers, levels, options, refusals
from loadtests.arrivals import Arrivals
from loadtests.callers import Caller, Callers
from loadtests.figures import Figures
from loadtests.login import Credentials, Login
from loadtests.shape import LoadShape
from loadtests.user import ChatUser, OverLimitUser, PlainUser, Plan, RefusedUser, StreamedUser

# Found by locust.
__all__ = ["ChatUser", "LoadShape", "OverLimitUser", "PlainUser", "RefusedUser", "StreamedUser"]

log = logging.getLogger("loadtests")


@events.init_command_line_parser.add_listener  # type: ignore[untyped-decorator]  # locust has no type for it
def _options(parser: LocustArgumentParser, **_: Any) -> None:
    options.add(parser)


@events.init.add_listener  # type: ignore[untyped-decorator]  # locust has no type for it
def _check(environment: Environment, **_: Any) -> None:
    """A run that cannot measure anything ends before it begins, in one sentence."""
    asked, runner = environment.parsed_options, environment.runner
    if asked is None or (isinstance(runner, WorkerRunner) and not asked.processes):
        return  # what a worker is to do comes from the master
    try:
        options.check(asked)
        options.levels(asked)
        if not isinstance(runner, MasterRunner) or asked.processes:
            _plan(asked)
    except SystemExit:
        if isinstance(runner, WorkerRunner):
            raise SystemExit(1) from None  # with --processes the master has the same options, and says what is wrong
        raise
    if not asked.user_classes and not isinstance(runner, WorkerRunner):
        environment.user_classes = [ChatUser]  # the others ask one kind alone, for who names them


@events.test_start.add_listener  # type: ignore[untyped-decorator]  # locust has no type for it
def _begin(environment: Environment, **_: Any) -> None:
    """Every run has arrivals of its own, from its first moment."""
    asked = environment.parsed_options
    if asked is None:
        return
    if not isinstance(environment.runner, WorkerRunner):
        asked.most_users = options.most_users(asked)  # for the workers, whose own -u means nothing
    if not isinstance(environment.runner, MasterRunner):
        ChatUser.plan = _plan(asked)


def _plan(asked: argparse.Namespace) -> Plan:
    usual = options.kinds(asked)
    if asked.tenants:
        found = callers.from_file(Path(asked.tenants), usual)
    else:
        found = Callers([Caller("", 1, Login(Credentials.from_environment()), usual, asked.model)])
    arrivals, chance = None, random.Random()  # noqa: S311  # no secret depends on it
    if rate := options.arrival_rate(asked):
        users = getattr(asked, "most_users", 1)
        arrivals = Arrivals(rate / users, options.profile(asked), chance)
    return Plan(
        found, refusals.prompts(Path(asked.refused_prompts or refusals.OURS)), arrivals, chance, time.perf_counter
    )


@events.quitting.add_listener  # type: ignore[untyped-decorator]  # locust has no type for it
def _judge(environment: Environment, **_: Any) -> None:
    """The service levels alone decide the exit code; in a distributed run the master's figures are everybody's."""
    asked, runner = environment.parsed_options, environment.runner
    if isinstance(runner, WorkerRunner) or asked is None:
        return
    stats = environment.stats
    measured = Figures(stats.entries.values(), (stats.last_request_timestamp or 0.0) - stats.start_time)
    broken = levels.broken(options.levels(asked), measured)
    if runner is not None and runner.exceptions:
        broken.append("a user stopped with an exception, shown above")
    for sentence in broken:
        log.error("service level broken: %s", sentence)
    if not broken:
        log.info("service levels kept over %d exchanges", measured.exchanges())
    if limited := measured.limited():
        log.info("%d of %d questions met a limit (429)", limited, measured.limited_of())
    if unsent := measured.failures("arrival"):
        log.warning("%d questions were due and found no free user before the end: the bound of -u was met", unsent)
    environment.process_exit_code = 1 if broken else 0
