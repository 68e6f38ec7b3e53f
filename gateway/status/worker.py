"""What this worker knows of itself, and the answer it gives with what the others know."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import msgspec

from gateway.degraded import PARTS, Part
from gateway.documented import about
from gateway.exchange import Exchange
from gateway.limits.checks import Measure, Standing
from gateway.limits.quotas import Quotas
from gateway.live import Live, stage, tokens
from gateway.money import NANO
from gateway.pool import Pool
from gateway.pool import Replica as Server
from gateway.routing import Catalogue
from gateway.siblings import Siblings
from gateway.status.report import (
    Installation,
    Limit,
    Replica,
    Running,
    Status,
    TargetLoad,
    Word,
    Worker,
    joined,
    longest,
    nearest,
)

_WORD = b"status"
_read = msgspec.json.Decoder(Word).decode


class _Question(msgspec.Struct):
    tenant: str | None


class Statuses:
    """Makes the answers of `/admin/status`; `degraded` says whether a part is."""

    def __init__(
        self,
        catalogue: Catalogue,
        live: Live,
        quotas: Quotas,
        siblings: Siblings,
        degraded: Callable[[Part], bool],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._catalogue, self._live, self._quotas, self._siblings = catalogue, live, quotas, siblings
        self._degraded, self._now = degraded, now
        self._id, self._since = uuid.uuid4().hex, now().isoformat(timespec="seconds")
        siblings.answer(_WORD, self._told)

    async def make(self, tenant: str | None, *, whole: bool) -> Status:
        """What there is to see of a tenant, or of all of them; `whole`: and of the installation."""
        own = await self._word(tenant)
        heard = await self._siblings.ask(_WORD, msgspec.json.encode(_Question(tenant)))
        words, silent = [own], heard.silent
        for answer in heard.answers:
            try:
                words.append(_read(answer))
            except msgspec.DecodeError:  # of another version, in the middle of an upgrade
                silent += 1
        found = joined(words)
        found.installation.silent = silent
        return Status(
            at=self._now().isoformat(timespec="milliseconds"),
            version=about()[0],
            tenant=tenant,
            in_flight=found.in_flight,
            requests=found.requests,
            limits=found.limits,
            installation=found.installation if whole else None,
        )

    async def _told(self, question: bytes) -> bytes:
        return msgspec.json.encode(await self._word(msgspec.json.decode(question, type=_Question).tenant))

    async def _word(self, tenant: str | None) -> Word:
        standings = await self._quotas.look(tenant)  # before the rest, which is of one moment then
        under_way = self._live.under_way()
        shown = [one for one in under_way if tenant is None or one[0].tenant == tenant]
        worker = Worker(id=self._id, pid=os.getpid(), since=self._since, in_flight=len(under_way))
        return Word(
            in_flight=len(shown),
            requests=longest(self._running(*one) for one in shown),
            limits=nearest(map(self._limit, standings)),
            installation=Installation(
                workers=[worker],
                silent=0,
                degraded=[part for part in PARTS if self._degraded(part)],
                targets=[self._target(pool) for pool in self._catalogue.pools.values()],
                counts=self._live.counts(),
                minute=self._live.minute(),
            ),
        )

    def _running(self, exchange: Exchange, seconds: float) -> Running:
        last = exchange.attempts[-1] if exchange.attempts else None
        # A name that is not published is the caller's own words.
        model = exchange.model if not exchange.model or exchange.model in self._catalogue.names() else "unknown"
        return Running(
            request_id=exchange.request_id,
            tenant=exchange.tenant,
            model=model,
            target=last.target if last else None,
            replica=last.replica if last else None,
            state=stage(exchange),
            seconds=round(seconds, 3),
            tokens=tokens(exchange),
        )

    def _limit(self, standing: Standing) -> Limit:
        check, of_money = standing.check, standing.check.measure is Measure.MONEY_PER_MONTH
        one = float(NANO) if of_money else 1.0
        until = self._now() + timedelta(seconds=standing.reset)
        return Limit(
            scope=check.scope,
            name=check.name.removeprefix(f"{check.tenant}/") if check.scope == "user" else check.name,
            tenant=None if check.of_installation else check.tenant,
            measure=check.measure.value,
            limit=check.limit * one,
            used=round(standing.used * one, 6),
            unit=self._catalogue.tariff.currency if of_money else check.unit,
            until=None if check.kind == "places" else until.isoformat(timespec="seconds"),
        )

    def _target(self, pool: Pool) -> TargetLoad:
        catalogue, admission = self._catalogue, pool.admission
        published = ((name, catalogue.targets(name, may_leave=True)) for name in catalogue.names())
        return TargetLoad(
            name=pool.name,
            models=[name for name, pools in published if any(pool is one for one in pools)],
            outside=pool.target.outside,
            in_flight=admission.under_way,
            waiting=admission.waiting,
            places=admission.places,
            replicas=[_replica(server, probed=pool.probed) for server in pool.replicas],
        )


def _replica(server: Server, *, probed: bool) -> Replica:
    figures, url = server.load.figures(), urlsplit(server.url)
    return Replica(
        index=server.index,
        address=f"{url.netloc.rpartition('@')[2]}{url.path}",  # without what an address may hold beside its host
        breaker=("closed", "trial", "open")[server.breaker.state()],
        down=server.breaker.down() if probed else None,
        in_flight=server.load.in_flight,
        running=figures.running if figures else None,
        waiting=figures.waiting if figures else None,
        cache=figures.cache if figures else None,
        generated=figures.generated if figures else None,
        problem=server.load.problem,
    )
