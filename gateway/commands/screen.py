"""How gateways look in a terminal: tables of `rich`, the worst in red, nothing that a caller wrote taken for markup."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlsplit

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from gateway.commands.looks import Rates, Seen
from gateway.status.report import Installation, Limit, Replica, Status, TargetLoad, Worker

_NONE: Final = "-"
_LONGEST: Final = 64  # characters of a name
_FRAME: Final = 2  # lines of a table beside its rows: its head, and a blank one before
_FEW_LIMITS: Final = 6
_NEAR, _REACHED = 0.8, 0.995  # of a limit
_FULL: Final = 0.9  # of a KV cache

Cell = str | Text


def view(seen: Sequence[Seen], height: int | None = None) -> RenderableType:
    """All there is to see; in so many lines, the live requests taking what the rest leaves."""
    known = [(_at(one), one.status, one.rates) for one in seen if one.status is not None and one.away_since is None]
    several = len(seen) > 1
    parts: list[tuple[RenderableType, int]] = [(_gateways(seen), 1 + len(seen))]
    parts += [(note, 1) for note in _notes(seen)]
    pace = ("requests/s", "errors/s", "refused/s", "first text p50", "p95", "tokens/s")
    parts += _section(pace, _paces(known), several=several)
    parts += _section(("target", "models", "in flight", "waiting", "limit"), _targets(known), several=several)
    parts += _section(
        ("replica", "address", "breaker", "probes", "ours", "running", "waiting", "KV cache", "tokens/s", ""),
        _replicas(known),
        several=several,
    )
    limits, requests = list(_limits(known)), list(_requests(known))
    if height is not None:
        used = sum(lines for _, lines in parts)
        limits = limits[: max(1, min(_FEW_LIMITS, height - used - 2 * _FRAME - 2))]
        used += len(limits) + _FRAME if limits else 0
        requests = requests[: max(1, height - used - _FRAME - 1)]
    parts += _section(("limit of", "name", "tenant", "what", "used", "of", "", "until"), limits, several=several)
    in_flight = sum(status.in_flight for _, status, _ in known)
    head = ("request", "tenant", "model", "target", "state", "seconds", "tokens")
    parts += _section(head, requests, several=several)
    if known:
        parts.append(
            (Text(f"{in_flight} under way, {len(requests)} shown" if in_flight else "no request is under way"), 1)
        )
    return Group(*(part for part, _ in parts))


Known = tuple[str, Status, Rates | None]
Row = tuple[str, tuple[Cell, ...]]


def _gateways(seen: Sequence[Seen]) -> Table:
    table = _table(
        *("gateway", "up since", "version", "workers", "in flight", "French", "at once/repaired/refused/foreign")
    )
    for one in seen:
        status = one.status
        if one.away_since is not None or status is None:
            since = f"away since {one.away_since:%H:%M:%S} UTC" if one.away_since else "being asked"
            table.add_row(_plain(_at(one)), Text(since, style="bold red"))
            continue
        whole = status.installation
        row: tuple[Cell, ...] = (_up_since(whole), status.version, _workers(whole), str(status.in_flight))
        table.add_row(_plain(_at(one)), *row, *_french(whole))
    return table


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
            yield _plain(one.reason, "bold red", longest=300)
            continue
        whole = one.status.installation if one.status is not None else None
        if one.status is not None and whole is None:
            yield _plain(
                f"{_at(one)}: of tenant {one.status.tenant} only; the installation needs the scope `tenants`", "dim"
            )
        if whole is not None and whole.degraded:
            yield _plain(f"{_at(one)}: works without what they depend on: {', '.join(whole.degraded)}", "yellow")
        if whole is not None and whole.silent:
            yield _plain(
                f"{_at(one)}: workers that do not answer: {whole.silent}; all figures are without theirs", "bold red"
            )


def _targets(known: Iterable[Known]) -> Iterator[Row]:
    for at, status, _ in known:
        for target in status.installation.targets if status.installation else ():
            full = bool(target.places) and target.in_flight >= target.places
            yield (
                at,
                (
                    _plain(target.name),
                    _plain(", ".join(target.models)),
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
        _plain(f"{target.name}/{replica.index}"),
        _plain(replica.address),
        Text(replica.breaker, style="" if replica.breaker == "closed" else "bold red"),
        Text(probes, style="bold red" if replica.down else ""),
        str(replica.in_flight),
        _number(replica.running),
        Text(_number(replica.waiting), style="yellow" if replica.waiting else ""),
        Text(_NONE if cache is None else f"{100 * cache:.0f}%", style="yellow" if (cache or 0) > _FULL else ""),
        _number(pace),
        _plain(f"metrics: {replica.problem}" if replica.problem else "", "yellow"),
    )


def _limits(known: Iterable[Known]) -> Iterator[Row]:
    every = [(at, limit) for at, status, _ in known for limit in status.limits]
    for at, limit in sorted(every, key=lambda pair: -pair[1].share):
        yield at, _limit(limit)


def _limit(limit: Limit) -> tuple[Cell, ...]:
    style = "bold red" if limit.share >= _REACHED else "yellow" if limit.share >= _NEAR else ""
    return (
        limit.scope,
        _plain(limit.name),
        _plain(limit.tenant or _NONE),
        _plain(limit.measure.replace("_", " ")),
        Text(_amount(limit.used), style=style),
        f"{_amount(limit.limit)} {limit.unit}",
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
                _plain(request.request_id),
                _plain(request.tenant),
                _plain(request.model or _NONE),
                _plain(target),
                request.state,
                f"{request.seconds:.1f}",
                str(request.tokens),
            ),
        )


def _section(head: Sequence[str], rows: Iterable[Row], *, several: bool) -> list[tuple[RenderableType, int]]:
    rows = list(rows)
    if not rows:
        return []
    table = _table(*(("gateway",) if several else ()), *head)
    for at, cells in rows:
        table.add_row(*((_plain(at),) if several else ()), *cells)
    return [(Text(""), 1), (table, 1 + len(rows))]


def _table(*head: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", show_edge=False)
    for name in head:
        table.add_column(name, no_wrap=True, overflow="ellipsis")
    return table


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
    return f"{value:,.0f}" if value == math.floor(value) else f"{value:,.2f}"


def _number(value: float | None) -> str:
    if value is None:
        return _NONE
    return f"{value:.0f}" if value >= 10 or value == math.floor(value) else f"{value:.1f}"


def _time(seconds: float | None) -> str:
    if seconds is None:
        return _NONE
    return f"{1000 * seconds:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def _plain(text: Any, style: str = "", longest: int = _LONGEST) -> Text:
    """Somebody's text as text: no markup, and nothing that a terminal obeys."""
    shown = "".join(sign if sign.isprintable() else "?" for sign in str(text))
    return Text(shown if len(shown) <= longest else f"{shown[: longest - 1]}~", style=style)
