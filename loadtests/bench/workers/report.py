"""The figures, and the table of them."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median
from typing import Any

from loadtests.bench.workers.turns import TOKENS, Form, Measured

_FULL, _IDLE = 0.9, 0.85  # a core is as good as busy; the gateway has room


def report(measured: Measured, machine: Mapping[str, Any], ledger: str) -> dict[str, Any]:
    """What the JSON holds. Efficiency is the rate of each worker over that of each of the fewest: 1 is the most to hope for."""
    done = {workers: forms for workers, forms in measured.items() if all(form.per_second for form in forms.values())}
    least = min(done, default=1)
    return {
        "machine": dict(machine),
        "ledger": ledger,
        "workers": {
            str(workers): {
                name: _figures(form, TOKENS if name == "stream" else 1)
                | {"efficiency": _efficiency(_each(form, workers), _each(done[least][name], least))}
                for name, form in forms.items()
            }
            for workers, forms in sorted(done.items())
        },
    }


def _each(form: Form, workers: int) -> float:
    return median(form.per_second) / workers


def _efficiency(each: float, of_the_fewest: float) -> float:
    return round(each / of_the_fewest, 3) if of_the_fewest else 0.0


def _figures(form: Form, times: int) -> dict[str, Any]:
    what = "tokens_per_s" if times > 1 else "requests_per_s"
    rates = [times * rate for rate in form.per_second]
    shares = {"gateway": form.gateway, "callers": form.callers, "busiest_caller": form.busiest, "stores": form.stores}
    return {
        what: round(median(rates), 1),
        "least": round(min(rates), 1),
        "most": round(max(rates), 1),
        "busy": {name: round(median(values), 3) for name, values in shares.items() if values},
        "failed": form.failed,
    }


_COLUMNS = (
    *("workers", "plain, requests/s", "efficiency", "streamed, tokens/s", "efficiency"),
    *("gateway busy", "callers busy (the busiest)", "stores busy", "wrong answers"),
)


def table(report: Mapping[str, Any]) -> str:
    """One line for each number of workers, and a word on each that was not held up by the gateway. Busy: plain / streamed."""
    lines = [_row(*_COLUMNS), "|" + "---:|" * len(_COLUMNS)]
    for workers, forms in report["workers"].items():
        plain, stream = forms["plain"], forms["stream"]
        lines.append(
            _row(
                workers,
                *(f"{plain['requests_per_s']:,.0f}", f"{plain['efficiency']:.2f}"),
                *(f"{stream['tokens_per_s']:,.0f}", f"{stream['efficiency']:.2f}"),
                *(_busy(forms, "gateway"), f"{_busy(forms, 'callers')} ({_busy(forms, 'busiest_caller')})"),
                *(_busy(forms, "stores"), str(plain["failed"] + stream["failed"])),
            )
        )
    said = [f"\n{workers} workers, {note}" for workers, forms in report["workers"].items() for note in notes(forms)]
    return "\n".join(lines + said) + "\n"


def notes(forms: Mapping[str, Any]) -> list[str]:
    """What a reader has to know of figures that do not show what the gateway can do."""
    said = []
    for name, form in forms.items():
        busy = form["busy"]
        if busy["gateway"] < _IDLE:
            full = {"callers": busy["busiest_caller"], "stores": busy.get("stores", 0.0)}
            who = " and ".join(other for other, share in full.items() if share >= _FULL)
            why = f"the {who} had no time left" if who else "nobody here was, so look at what else ran"
            said.append(f"{name}: the gateway was {busy['gateway']:.0%} busy and is not what limited: {why}.")
        if form["failed"]:
            said.append(f"{name}: {form['failed']} answers were wrong.")
    return said


def _busy(forms: Mapping[str, Any], who: str) -> str:
    return " / ".join(f"{form['busy'][who]:.0%}" if who in form["busy"] else "–" for form in forms.values())


def _row(*entries: str) -> str:
    return f"| {' | '.join(entries)} |"
