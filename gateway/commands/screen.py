"""How gateways look in a terminal: what matters first, the worst in red, nothing that a caller wrote taken for markup."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Final
from urllib.parse import urlsplit

from rich.console import Group
from rich.text import Text

from gateway.commands.columns import FACTS, LIMITS, PACES, REPLICAS, REQUESTS, TARGETS
from gateway.commands.looks import Rates, Seen
from gateway.commands.tables import Cell, Column, fits, pairs, plain, sentence, table
from gateway.status.report import Installation, Limit, Replica, Status, TargetLoad, Worker

_NONE: Final = "-"
_FRAME: Final = 2  # lines of a table beside its rows: its head, and a blank one before
_FEW_LIMITS: Final = 6
_NEAR, _REACHED = 0.8, 0.995  # of a limit
_MUCH: Final = 1000  # of something whose hundredths nobody asks for
_FULL: Final = 0.9  # of a KV cache


def view(seen: Sequence[Seen], width: int, height: int | None = None) -> Group:
    """All there is to see, in so many columns; in so many lines, the live requests taking what the rest leaves."""
    known = [(_at(one), one.status, one.rates) for one in seen if one.status is not None and one.away_since is None]

    def section(columns: Sequence[Column], rows: Sequence[Row], leave: int = 0) -> list[Text]:
        if not rows:
            return []
        if len(seen) == 1:
            return [Text(), *table(columns, [cells for _, cells in rows], width)]
        named = [(plain(at), *cells) for at, cells in rows]
        return [Text(), *table([Column("gateway", leave=leave), *columns], named, width)]

    lines = [*_gateways(seen, width), *(line for note in _notes(seen) for line in sentence(note, width))]
    lines += section(PACES, list(_paces(known)))
    lines += section(TARGETS, list(_targets(known)))
    lines += section(REPLICAS, list(_replicas(known)))
    limits, requests = list(_limits(known)), list(_requests(known))
    if height is not None:
        room = height - len(lines) - 2 * _FRAME - 1
        limits = limits[: max(1, min(_FEW_LIMITS, max(room // 2, room - len(requests))))]
    lines += section(LIMITS, limits, leave=4)
    if height is not None:
        requests = requests[: max(1, height - len(lines) - _FRAME - 1)]
    lines += section(REQUESTS, requests, leave=3)
    in_flight = sum(status.in_flight for _, status, _ in known)
    if known:
        lines.append(Text(f"{in_flight} under way, {len(requests)} shown" if in_flight else "no request is under way"))
    return Group(*lines)


Known = tuple[str, Status, Rates | None]
Row = tuple[str, tuple[Cell, ...]]


def _gateways(seen: Sequence[Seen], width: int) -> list[Text]:
    facts = [_facts(one) for one in seen]
    columns = [Column(head) for head in FACTS]
    rows = [[*(value for _, value in of), *[""] * (len(columns) - len(of))] for of in facts]
    if fits(columns, rows, width):
        return table(columns, rows, width)
    return [line for of in facts for line in pairs(of, width)]


def _facts(one: Seen) -> list[tuple[str, Cell]]:
    at, status = ("gateway", plain(_at(one))), one.status
    if one.away_since is not None or status is None:
        since = f"away since {one.away_since:%H:%M:%S} UTC" if one.away_since else "being asked"
        return [at, ("", Text(since, style="bold red"))]
    whole = status.installation
    told: tuple[Cell, ...] = (_up_since(whole), status.version, _workers(whole), str(status.in_flight))
    return [at, *zip(FACTS[1:], (*told, *_french(whole)), strict=True)]


def _french(whole: Installation | None) -> tuple[Cell, ...]:
    share = whole.minute.share if whole is not None else None
    if whole is None or share is None:
        return (_NONE, _NONE)
    minute = whole.minute
    style = "bold red" if minute.foreign + minute.not_french else ""
    counted = f"{minute.french}/{minute.repaired}/{minute.not_french}/{minute.foreign}"
    return (Text(f"{100 * share:.0f}%", style), counted)


def _paces(known: Iterable[Known]) -> Iterator[Row]:
    for at, _, rates in known:
        if rates is not None:
            yield (
                at,
                (
                    _number(rates.requests),
                    Text(_number(rates.errors), style="bold red" if rates.errors else ""),
                    Text(_number(rates.refusals), style="yellow" if rates.refusals else ""),
                    _time(rates.first_text_p50),
                    _time(rates.first_text_p95),
                    _number(rates.tokens),
                ),
            )


def _notes(seen: Iterable[Seen]) -> Iterator[Text]:
    """What is wrong, in sentences."""
    for one in seen:
        if one.reason is not None:
            yield plain(one.reason, "bold red", longest=300)
            continue
        whole = one.status.installation if one.status is not None else None
        if one.status is not None and whole is None:
            yield plain(
                f"{_at(one)}: of tenant {one.status.tenant} only; the installation needs the scope `tenants`", "dim"
            )
        if whole is not None and whole.degraded:
            yield plain(f"{_at(one)}: works without what they depend on: {', '.join(whole.degraded)}", "yellow")
        if whole is not None and whole.silent:
            yield plain(
                f"{_at(one)}: workers that do not answer: {whole.silent}; all figures are without theirs", "bold red"
            )
        if whole is not None:
            yield from _problems(_at(one), whole)


def _problems(at: str, whole: Installation) -> Iterator[Text]:
    """Why metrics cannot be used: a replica seldom has a reason of its own."""
    found: dict[str, list[str]] = {}
    for target in whole.targets:
        for replica in target.replicas:
            if replica.problem:
                found.setdefault(replica.problem, []).append(f"{target.name}/{replica.index}")
    for reason, replicas in found.items():
        yield plain(f"{at}: metrics of {', '.join(replicas)}: {reason}", "yellow", longest=300)


def _targets(known: Iterable[Known]) -> Iterator[Row]:
    for at, status, _ in known:
        for target in status.installation.targets if status.installation else ():
            full = bool(target.places) and target.in_flight >= target.places
            yield (
                at,
                (
                    plain(target.name),
                    Text(", ".join(plain(model).plain for model in target.models)),
                    Text(str(target.in_flight), style="yellow" if full else ""),
                    Text(str(target.waiting), style="bold red" if target.waiting else ""),
                    str(target.places or "none"),
                ),
            )


def _replicas(known: Iterable[Known]) -> Iterator[Row]:
    for at, status, rates in known:
        for target in status.installation.targets if status.installation else ():
            for replica in target.replicas:
                yield at, _replica(target, replica, rates)


def _replica(target: TargetLoad, replica: Replica, rates: Rates | None) -> tuple[Cell, ...]:
    pace = rates.generated.get((target.name, replica.address)) if rates else None
    cache = replica.cache
    probes = {None: _NONE, True: "down", False: "up"}[replica.down]
    return (
        plain(f"{target.name}/{replica.index}"),
        plain(replica.address),
        Text(replica.breaker, style="" if replica.breaker == "closed" else "bold red"),
        Text(probes, style="bold red" if replica.down else ""),
        str(replica.in_flight),
        _number(replica.running),
        Text(_number(replica.waiting), style="yellow" if replica.waiting else ""),
        Text(_NONE if cache is None else f"{100 * cache:.0f}%", style="yellow" if (cache or 0) > _FULL else ""),
        _number(pace),
    )


def _limits(known: Iterable[Known]) -> Iterator[Row]:
    every = [(at, limit) for at, status, _ in known for limit in status.limits]
    for at, limit in sorted(every, key=lambda pair: -pair[1].share):
        yield at, _limit(limit)


def _limit(limit: Limit) -> tuple[Cell, ...]:
    style = "bold red" if limit.share >= _REACHED else "yellow" if limit.share >= _NEAR else ""
    return (
        limit.scope,
        plain(limit.name),
        plain(limit.tenant or _NONE),
        plain(limit.measure.replace("_per_", "/").replace("minute", "min")),
        Text(_amount(limit.used), style=style),
        _amount(limit.limit) + (f" {limit.unit}" if limit.measure.startswith("money") else ""),
        Text(f"{100 * limit.share:.0f}%", style=style),
        _until(limit.until),
    )


def _requests(known: Iterable[Known]) -> Iterator[Row]:
    every = [(at, request) for at, status, _ in known for request in status.requests]
    for at, request in sorted(every, key=lambda pair: -pair[1].seconds):
        target = _NONE if request.target is None else f"{request.target}/{request.replica}"
        yield (
            at,
            (
                plain(request.request_id),
                plain(request.tenant),
                plain(request.model or _NONE),
                plain(target),
                request.state,
                f"{request.seconds:.1f}",
                str(request.tokens),
            ),
        )


def _at(seen: Seen) -> str:
    return urlsplit(seen.url).netloc.rpartition("@")[2]


def _up_since(whole: Installation | None) -> str:
    if whole is None:
        return _NONE
    started = min(datetime.fromisoformat(worker.since) for worker in whole.workers)
    return f"{started.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def _workers(whole: Installation | None) -> Cell:
    if whole is None:
        return _NONE
    workers: list[Worker] = whole.workers
    return Text(f"{len(workers)} of {len(workers) + whole.silent}", style="bold red" if whole.silent else "")


def _until(text: str | None) -> str:
    if text is None:
        return _NONE
    until = datetime.fromisoformat(text).astimezone(UTC)
    return f"{until:%H:%M:%S}" if until.date() == datetime.now(UTC).date() else f"{until:%Y-%m-%d %H:%M}"


def _amount(value: float) -> str:
    return f"{value:,.0f}" if value == math.floor(value) or value >= _MUCH else f"{value:,.2f}"


def _number(value: float | None) -> str:
    if value is None:
        return _NONE
    return f"{value:.0f}" if value >= 10 or value == math.floor(value) else f"{value:.1f}"


def _time(seconds: float | None) -> str:
    if seconds is None:
        return _NONE
    return f"{1000 * seconds:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
