"""Which target is asked for a model, which of its replicas, and which comes next after a failure or a drift."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import structlog

from gateway.errors import ModelNotFound, UpstreamUnavailable
from gateway.settings import Settings, Target

log = structlog.get_logger()


@dataclass(slots=True)
class Replica:
    """One model server. `in_flight` counts our own requests under way."""

    url: str
    in_flight: int = 0

    @contextmanager
    def load(self) -> Iterator[str]:
        """Count a request on this replica while it lasts; gives the URL."""
        self.in_flight += 1
        try:
            yield self.url
        finally:
            self.in_flight -= 1


@dataclass(slots=True)
class Pool:
    """A target with its replicas."""

    name: str
    target: Target
    replicas: list[Replica]

    def least_loaded(self) -> Replica:
        """The replica with the fewest of our own requests."""
        return min(self.replicas, key=lambda replica: replica.in_flight)


@dataclass(frozen=True, slots=True)
class Ask:
    """What to ask next: a target, plainly or with the firm French instruction."""

    pool: Pool
    firm: bool


class Ladder:
    """The order of asks for one request.

    A target that fails is left for the next. An answer that drifts before anything was delivered is asked again of the same
    target with a firm French instruction; if that drifts too, the next target is asked, firmly from the start.
    """

    def __init__(self, pools: tuple[Pool, ...]) -> None:
        self._pools = pools
        self._position = 0
        self._firm = False

    def current(self) -> Ask | None:
        """What to ask now, or None when the ladder is at its end."""
        if self._position >= len(self._pools):
            return None
        return Ask(self._pools[self._position], self._firm)

    def failed(self) -> None:
        """The current target gave no usable answer."""
        self._position += 1

    def drifted(self) -> None:
        """The current target's answer was not French."""
        if self._firm:
            self._position += 1
        self._firm = True


class Catalogue:
    """The published models and the pools behind them."""

    def __init__(self, settings: Settings) -> None:
        pools = {}
        for name, target in settings.targets.items():
            if target.kind == "openai" and target.api_key_env and target.key() is None:
                log.info("target_left_out", target=name, reason=f"{target.api_key_env} is not set")
                continue
            pools[name] = Pool(name, target, [Replica(str(url).rstrip("/")) for url in target.urls])
        self.pools = pools
        self._models: dict[str, tuple[Pool, ...]] = {}
        for name, model in settings.models.items():
            usable = tuple(pools[target] for target in model.targets if target in pools)
            if usable:
                self._models[name] = usable
            else:
                log.warning("model_left_out", model=name, reason="none of its targets can be used")
        self._owners = {name: model.owned_by for name, model in settings.models.items()}

    def names(self) -> list[str]:
        """The published names, in the configuration's order."""
        return list(self._models)

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
            raise ModelNotFound(f"The model {model[:80]!r} does not exist or you have no access to it.", param="model")
        allowed = tuple(pool for pool in self._models[model] if may_leave or not pool.target.outside)
        if not allowed:
            raise UpstreamUnavailable("No model server is available for this model.", headers={"retry-after": "30"})
        return allowed
