"""One user: asks a question, reads the answer, waits, asks the next."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from locust import FastHttpUser, task
from locust.env import Environment

from loadtests.answer import Failed, Limited, Moments, follow, text
from loadtests.arrivals import Arrivals
from loadtests.callers import Caller, Callers
from loadtests.figures import LIMITED, TENANT
from loadtests.refusals import Prompt
from loadtests.talk import Talk, lines

QUESTIONS = tuple(Path(__file__).with_name("questions.txt").read_text(encoding="utf-8").splitlines())
_OVER = 3600.0  # seconds; a user for whom nothing is due any more waits until locust ends it


@dataclass(frozen=True)
class Plan:
    """What the users of one process share in one run; without `arrivals` each asks when it has its answer."""

    callers: Callers
    refused: tuple[Prompt, ...]
    arrivals: Arrivals | None
    random: random.Random
    clock: Callable[[], float]


class ChatUser(FastHttpUser):
    """Asks what the weights say.

    Fires in milliseconds `ttft` and `inter_token` for streamed answers, `total` for each answer or failure, and `limited` in
    place of `total` for a 429. Locust's own time of a streamed request stops at the headers, so its event is not used.
    """

    plan: ClassVar[Plan]  # set before a run begins
    only: ClassVar[str | None] = None  # the one kind that a class of users asks

    insecure = False  # a certificate is checked: the password goes over this connection
    connection_timeout = 10.0
    network_timeout = 120.0

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        if environment.parsed_options is None:
            raise ValueError("the users need the command line's options")
        self._talk = Talk(self.client, environment.parsed_options.max_tokens)
        self._pause = float(environment.parsed_options.pause)
        self._plan = self.plan
        self._due: float | None = None
        if self._plan.arrivals:
            self._plan.arrivals.joined()

    def on_stop(self) -> None:
        """Count the questions that were due and that nobody was free to ask."""
        arrivals = self._plan.arrivals
        if arrivals is None:
            return
        overdue = [self._due] if self._due is not None and self._due <= arrivals.clock() else []
        if arrivals.left():
            overdue += arrivals.overdue()
        for due in overdue:
            self._fire("arrival", "unsent", arrivals.clock() - due, Failed("no user was free"))

    def wait_time(self) -> float:
        """Seconds to the next question; with arrivals 0 when it is overdue."""
        if self._plan.arrivals is None:
            return self._pause
        self._due = self._plan.arrivals.next()
        return _OVER if self._due is None else max(0.0, self._due - self._plan.arrivals.clock())

    @task
    def ask(self) -> None:
        """One question. Its times are counted from when it was due: then a wait for a free user is in them."""
        now = self._plan.clock()
        if self._plan.arrivals is None:
            self._ask(Moments(now))
        elif self._due is not None:
            due, self._due = self._due, None
            self._fire("arrival", "wait", now - due)
            self._ask(Moments(due))

    def _ask(self, moments: Moments) -> None:
        caller, kind = self._plan.callers.draw(self._plan.random, self.only)
        failure: Failed | None = None
        name = "total"
        try:
            token = self._talk.token(caller)
        except Failed:
            return  # already counted, by the request that failed
        try:
            self._answer(kind, caller, token, moments)
        except Failed as failed:
            failure = failed
        except Limited as limited:
            if kind == "over_limit" and not limited.complete:
                failure = Failed("429 without retry-after or code")
            else:
                name = LIMITED
        seconds = (moments.ended or self._plan.clock()) - moments.started
        if kind == "streamed":
            self._fire_stream(moments)
        self._fire(kind, name, seconds, failure)
        if caller.name:
            self._fire(f"{TENANT}{caller.name}", name, seconds, failure)

    def _answer(self, kind: str, caller: Caller, token: str, moments: Moments) -> None:
        """One exchange into `moments`; raises Failed unless it ends as its kind has to, Limited for a 429."""
        if kind == "refused":
            self._refused(self._plan.random.choice(self._plan.refused), caller, token, moments)
        else:
            self._exchange(caller, token, self._plan.random.choice(QUESTIONS), moments, stream=kind == "streamed")

    def _refused(self, prompt: Prompt, caller: Caller, token: str, moments: Moments) -> None:
        try:
            self._exchange(caller, token, prompt.text, moments, stream=self._plan.random.random() < 0.5)
        except Failed as failure:
            prompt.failed(failure)
        else:
            prompt.answered("".join(moments.pieces))

    def _exchange(self, caller: Caller, token: str, prompt: str, moments: Moments, *, stream: bool) -> None:
        answer = self._talk.ask(caller, token, prompt, stream=stream)
        if not stream:
            moments.pieces.append(text(answer.content or b""))
            moments.ended = self._plan.clock()
            return
        coming = lines(answer)
        try:
            follow(coming, moments, self._plan.clock)
            _drain(coming)
        finally:
            coming.close()

    def _fire_stream(self, moments: Moments) -> None:
        if moments.first is not None:
            self._fire("streamed", "ttft", moments.first - moments.started)
        for gap in moments.gaps:
            self._fire("streamed", "inter_token", gap)

    def _fire(self, kind: str, name: str, seconds: float, failure: Failed | None = None) -> None:
        self.environment.events.request.fire(
            request_type=kind, name=name, response_time=seconds * 1000, response_length=0, exception=failure, context={}
        )


class StreamedUser(ChatUser):
    """Asks for streamed answers alone."""

    only = "streamed"


class PlainUser(ChatUser):
    """Asks for whole answers alone."""

    only = "plain"


class OverLimitUser(ChatUser):
    """Belongs to a caller whose limit is small, and expects a 429 with `Retry-After` for what is above it."""

    only = "over_limit"


class RefusedUser(ChatUser):
    """Says what guards have to refuse, and expects the refusal or the help line's text."""

    only = "refused"


USERS = (ChatUser, StreamedUser, PlainUser, OverLimitUser, RefusedUser)


def _drain(lines: Iterable[bytes]) -> None:
    """Read what follows [DONE], so that the connection can be used again."""
    with suppress(Failed):
        for _ in lines:
            pass
