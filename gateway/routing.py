"""Which target is asked for a model, and which comes next after a failure or a drift; `pool` chooses among its replicas."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Self

import structlog

from auth import Principal
from gateway.admission import Admission, Place
from gateway.errors import Overloaded, UpstreamUnavailable, unknown_model
from gateway.pool import Call, Pool, Replica, places, pool, queue_of
from gateway.settings import Settings
from gateway.spans import UNSEEN, Span
from gateway.target import Target

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Ask:
    """What to ask next: a target by one of its replicas, plainly or with the firm French instruction.

    `answer_tokens` bounds an answer whose caller sets no bound. `begun` is the part of the answer that the model is to go on
    from, of which the caller has had `delivered` tokens.
    """

    pool: Pool
    firm: bool
    call: Call
    answer_tokens: int | None = None
    begun: str = ""
    delivered: int = 0


class Ladder:
    """The order of asks for one request of `tenant`; a context that gives back what the request holds.

    A replica that fails is left for another of its target, once; then the target is left for the next. An answer that drifts
    before anything was delivered is asked again of the same target with a firm French instruction; if that drifts too, the
    next target is asked, firmly from the start. A target with too many requests is left for the next when the request's time in
    its queue is over.
    """

    def __init__(
        self,
        pools: tuple[Pool, ...],
        tenant: str = "",
        conversation: Iterable[str] = (),
        answer_tokens: Mapping[str, int] | None = None,
        span: Span = UNSEEN,
    ) -> None:
        """`answer_tokens` bounds the answers of targets, by their names; `span` is the request's."""
        self._span = span
        self._pools, self._tenant, self._bounds = pools, tenant, answer_tokens or {}
        self._conversation = tuple(conversation)
        self._position = 0
        self._firm = False
        self._asked: Replica | None = None
        self._left: Replica | None = None
        self._place: Place | None = None  # kept while the same pool is asked again
        self._turned_away: Overloaded | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._leave()

    async def current(self) -> Ask | None:
        """What to ask now, perhaps after a time in a queue; None when the ladder is at its end.

        Raises:
            UpstreamUnavailable: nothing can be asked at all, as no breaker admits a request.
            Overloaded: nor does any queue.
        """
        while self._position < len(self._pools):
            pool = self._pools[self._position]
            if await self._admitted(pool):
                replica = pool.choose(self._conversation, but=self._left)
                if replica is not None:
                    self._asked = replica
                    return Ask(pool, self._firm, Call(replica), self._bounds.get(pool.name))
            self._next()
        if self._turned_away is not None and self._asked is None:
            raise self._turned_away
        if self._pools and self._asked is None:
            raise _unavailable(min(pool.wait() for pool in self._pools))
        return None

    def again(self, begun: str, delivered: int) -> Ask:
        """What was asked last, of the same replica, to go on firmly from what has `begun`."""
        pool = self._pools[self._position]
        if self._asked is None:
            raise RuntimeError("nothing was asked yet")
        return Ask(pool, True, Call(self._asked), self._bounds.get(pool.name), begun, delivered)

    def failed(self) -> None:
        """The replica asked gave no usable answer."""
        if self._left is None:
            self._left = self._asked
        else:
            self._next()

    def drifted(self) -> None:
        """The current target's answer was not French."""
        if self._firm:
            self._next()
        self._firm = True

    def too_long(self) -> bool:
        """The current target's context is too small for the request: only targets known to have more are asked, if there are."""
        had = self._pools[self._position].context_length
        while had is not None and self._position + 1 < len(self._pools):
            self._next()
            if (self._pools[self._position].context_length or 0) > had:
                self._asked = (
                    None  # whoever declined has not answered: if nobody else can be asked, the caller is told so
                )
                return True
        self._next()
        return False

    async def _admitted(self, pool: Pool) -> bool:
        if self._place is not None:
            return True
        if pool.wait() > 0:  # whoever waits in vain should not do so in a queue
            return False
        pool.waiting += 1
        try:
            with self._span.step("queue"):
                self._place = await pool.admission.enter(self._tenant)
        except Overloaded as error:
            self._turned_away = error
            return False
        finally:
            pool.waiting -= 1
        pool.under_way += 1
        return True

    def _next(self) -> None:
        self._leave()
        self._position, self._left = self._position + 1, None

    def _leave(self) -> None:
        if self._place is not None:
            self._place.leave()
            self._place = None
            self._pools[self._position].under_way -= 1


class Catalogue:
    """The published models and the pools behind them; `clock` is a monotonic clock in seconds."""

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        """Raises BadSettings where a target's key cannot be read."""
        self._chance, self._clock = random.Random(), clock  # noqa: S311  # which of two replicas: no secret
        self.pools: dict[str, Pool] = {}
        self.routing = settings.routing
        self.replace(settings, settings.keys())

    def replace(self, settings: Settings, keys: Mapping[str, str | None]) -> None:
        """Go on with these targets, models and routing; `keys` are the targets' own.

        A target whose name stays keeps its pool, so that requests which wait for a replica see the new ones. The pool of a target
        that is gone is let be: whoever was accepted there ends there.
        """
        pools: dict[str, Pool] = {}
        admissions: dict[Hashable, Admission] = {}
        for name, target in settings.targets.items():
            key = keys[name]
            if target.kind == "openai" and target.api_key_env and key is None:
                log.info("target_left_out", target=name, reason=f"{target.api_key_env} is not set")
                continue
            workers, known = settings.server.workers, self.pools.get(name)
            admission = self._admission(target, workers, known, admissions, queue_of(name, target))
            if known is None:
                known = pool(
                    name,
                    target,
                    settings.routing,
                    chance=self._chance,
                    clock=self._clock,
                    workers=workers,
                    key=key,
                    admission=admission,
                )
            else:
                known.become(target, settings.routing, clock=self._clock, workers=workers, key=key, admission=admission)
            pools[name] = known
        models: dict[str, tuple[Pool, ...]] = {}
        for name, model in settings.models.items():
            usable = tuple(pools[target] for target in model.targets if target in pools)
            if usable:
                models[name] = usable
            else:
                log.warning("model_left_out", model=name, reason="none of its targets can be used")
        self.pools, self.routing, self._models = pools, settings.routing, models
        self.tariff = settings.tariff()
        self._owners = {name: model.owned_by for name, model in settings.models.items()}
        self._tenants = {name: model.tenants for name, model in settings.models.items()}

    def _admission(
        self, target: Target, workers: int, known: Pool | None, shared: dict[Hashable, Admission], queue: Hashable
    ) -> Admission:
        """The admission of all targets with this `queue`: the first one's own, unless another queue has gone on with it."""
        if queue not in shared:
            own = known.admission if known is not None and known.admission not in shared.values() else None
            shared[queue] = own or Admission(
                places(target, workers), target.queue_length, target.queue_seconds, self._clock
            )
        return shared[queue]

    def names(self) -> list[str]:
        """The published names, in the configuration's order."""
        return list(self._models)

    def knows(self, name: str, caller: Principal) -> bool:
        """Whether the caller may ask for the name: by its own rights, and by the tenants that the model is for."""
        tenants = self._tenants.get(name)
        return caller.knows(name) and (tenants is None or any(map(caller.reaches, tenants)))

    def owner(self, name: str) -> str:
        """Who the model is said to belong to; raises ModelNotFound."""
        self.targets(name, may_leave=True)
        return self._owners[name]

    def targets(self, model: str, *, may_leave: bool) -> tuple[Pool, ...]:
        """The pools that may answer for `model`, in order; outside ones only for callers whose text may leave.

        Raises:
            ModelNotFound: no such model is published.
            UpstreamUnavailable: it is, but no target is left for this caller.
        """
        if model not in self._models:
            raise unknown_model(model)
        allowed = tuple(pool for pool in self._models[model] if may_leave or not pool.target.outside)
        if not allowed:
            raise UpstreamUnavailable("No model server is available for this model.", headers={"retry-after": "30"})
        return allowed


def _unavailable(seconds: float) -> UpstreamUnavailable:
    # Nobody knows how long a trial will take, and a second is the least that Retry-After can say.
    wait = max(1, math.ceil(seconds)) if math.isfinite(seconds) else 1
    return UpstreamUnavailable("No model server is available.", headers={"retry-after": str(wait)})
