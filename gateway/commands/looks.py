"""What one gateway was seen to do by asking it again and again, and how fast: differences between two looks."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from gateway.commands.login import Away, not_reached
from gateway.live import SECONDS, Counts
from gateway.settings import BadSettings
from gateway.status.report import Status

_SECONDS: Final = 5.0  # for an answer
_BYTES: Final = 8 * 1024 * 1024


@dataclass(frozen=True)
class Rates:
    """A second, over the last `seconds`; times to the first text in seconds, None where there was none.

    `generated`: tokens a second by target and address of a replica, where it tells.
    """

    seconds: float
    requests: float
    errors: float
    refusals: float
    tokens: float
    first_text_p50: float | None
    first_text_p95: float | None
    generated: dict[tuple[str, str], float]

    def document(self) -> dict[str, Any]:
        """The same for JSON."""
        generated = [{"target": of, "address": at, "tokens": rate} for (of, at), rate in self.generated.items()]
        return {**vars(self), "generated": generated}


@dataclass(frozen=True)
class Seen:
    """What is known of a gateway now. While it is `away` the last status is that of before."""

    url: str
    status: Status | None = None
    rates: Rates | None = None
    away_since: datetime | None = None
    reason: str | None = None


class Gateway:
    """One that is asked; `key` gives what it is asked with, and raises as `login.Login` does."""

    def __init__(self, url: str, key: Callable[[], str], tenant: str | None = None) -> None:
        self.seen = Seen(url)
        self._key = key
        self._query = "?" + urllib.parse.urlencode({"tenant": tenant}) if tenant else ""
        self._before: Status | None = None

    def look(self) -> None:
        """Ask once. Raises BadSettings for what waiting does not change; that a gateway is away is only noted."""
        try:
            self._see(_asked(self.seen.url, self._query, self._key()))
        except Away as away:
            self.lost(str(away))

    def lost(self, reason: str) -> None:
        """Note that it does not answer, and why."""
        since = self.seen.away_since or datetime.now(UTC)
        self.seen = Seen(self.seen.url, self.seen.status, None, since, reason)

    def _see(self, status: Status) -> None:
        before, self._before = self._before, status
        self.seen = Seen(self.seen.url, status, rates(before, status) if before is not None else None)


def comparable(before: Status, now: Status) -> bool:
    """Whether what was counted before is part of what is counted now: the same workers speak, nobody more and nobody less."""
    if before.installation is None or now.installation is None or _between(before, now) <= 0:
        return False
    return {worker.id for worker in before.installation.workers} == {worker.id for worker in now.installation.workers}


def rates(before: Status, now: Status) -> Rates | None:
    """How fast things went between two looks; None where they cannot be compared."""
    if not comparable(before, now):
        return None
    seconds, counts = _between(before, now), _counted(before, now)
    return Rates(
        seconds=round(seconds, 3),
        requests=counts.requests / seconds,
        errors=counts.errors / seconds,
        refusals=counts.refusals / seconds,
        tokens=max(0, counts.tokens) / seconds,  # a model server may count fewer than there were deltas
        first_text_p50=quantile(counts.first_text, 0.5),
        first_text_p95=quantile(counts.first_text, 0.95),
        generated=_generated(before, now, seconds),
    )


def quantile(numbers: Sequence[int], share: float) -> float | None:
    """The time under which a `share` of the first texts came, straight lines being drawn between the bounds `SECONDS`."""
    wanted, below = share * sum(numbers), 0
    if not wanted:
        return None
    for place, number in enumerate(numbers):
        if below + number >= wanted:
            if place == len(SECONDS):
                return SECONDS[-1]
            least = SECONDS[place - 1] if place else 0.0
            return least + (SECONDS[place] - least) * (wanted - below) / number
        below += number
    return None


def _between(before: Status, now: Status) -> float:
    return (datetime.fromisoformat(now.at) - datetime.fromisoformat(before.at)).total_seconds()


def _counted(before: Status, now: Status) -> Counts:
    if before.installation is None or now.installation is None:
        return Counts()
    old, new = before.installation.counts, now.installation.counts
    made = Counts(**{name: getattr(new, name) - getattr(old, name) for name in Counts.__struct_fields__[:-1]})
    made.first_text = [later - earlier for earlier, later in zip(old.first_text, new.first_text, strict=True)]
    return made


def _generated(before: Status, now: Status, seconds: float) -> dict[tuple[str, str], float]:
    old, new = _told(before), _told(now)
    return {at: (told - old[at]) / seconds for at, told in new.items() if at in old and told >= old[at]}


def _told(status: Status) -> dict[tuple[str, str], float]:
    targets = status.installation.targets if status.installation else []
    return {
        (target.name, replica.address): replica.generated
        for target in targets
        for replica in target.replicas
        if replica.generated is not None
    }


class _Stay(urllib.request.HTTPRedirectHandler):
    """A key is not carried to another address."""

    def redirect_request(self, *_: Any) -> None:
        """Do not follow."""


def _asked(url: str, query: str, key: str) -> Status:
    request = urllib.request.Request(f"{url}/admin/status{query}", headers={"authorization": f"Bearer {key}"})  # noqa: S310  # `top` has looked
    try:
        with urllib.request.build_opener(_Stay).open(request, timeout=_SECONDS) as answer:
            return msgspec.json.decode(answer.read(_BYTES), type=Status)
    except urllib.error.HTTPError as error:
        with error:
            raise _refused(url, error) from None
    except OSError as error:
        raise not_reached(url, error) from None
    except http.client.HTTPException as error:
        raise Away(f"{url} broke off its answer ({type(error).__name__}).") from None
    except msgspec.DecodeError:
        raise BadSettings(f"{url} answers, but not as a gateway of this version does.") from None


def _refused(url: str, error: urllib.error.HTTPError) -> BadSettings:
    try:
        why = str(json.load(error)["error"]["message"])
    except (OSError, ValueError, KeyError, TypeError):
        why = f"status {error.code}"
    if error.code >= 500:
        return Away(f"{url} cannot answer: {why}")
    if error.code == 401:
        return BadSettings(f"{url} does not let in: {why} Set PASSERELLE_TOKEN, or give --key-file or --user.")
    if error.code == 403:
        return BadSettings(f"{url} refuses: {why} Operators have it: `passerelle users add NAME --role operator`.")
    if error.code == 404:
        return BadSettings(f"{url} has no /admin/status: it is no gateway, or one of an older version.")
    if 300 <= error.code < 400:
        return BadSettings(
            f"{url} answers with a redirect, which a key does not follow: give --url the address itself."
        )
    return BadSettings(f"{url} refuses: {why}")
