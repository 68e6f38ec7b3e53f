"""Load on a whole gateway: every kind of question, mixed callers, an arrival rate, two processes, levels, the HTML report."""

import asyncio
from pathlib import Path

from auth.passwords import CHEAPEST, Passwords
from auth.principal import scopes_of
from auth.store import UserStore
from tests.house import house
from tests.loadtests.run import Report, locust

TENANTS = """
[[tenants]]
name = "mairie"
weight = 4
user = "charge"
password_env = "LOAD_PASSWORD"

[[tenants]]
name = "lycée"
weight = 2
key_env = "LOAD_TOKEN"
refused = 1

[[tenants]]
name = "étroit"
weight = 2
key_env = "LOAD_NARROW"
over_limit = 1
"""
LEVELS = """
error_share = 0
limited_share = 0
requests_per_second = 3
[streamed]
ttft_p95_ms = 20000
total_p99_ms = 20000
[plain]
total_p95_ms = 20000
[over_limit]
limited_share_min = 0.1
[refused]
error_share = 0
total_p95_ms = 20000
[arrival]
wait_p95_ms = 10000
[tenant.mairie]
error_share = 0
"""


async def _run(folder: Path, *options: str) -> Report:
    """Three callers ask, one of whom has two requests a minute."""
    (folder / "tenants.toml").write_text(TENANTS, encoding="utf-8")
    (folder / "levels.toml").write_text(LEVELS, encoding="utf-8")
    async with house(folder / "state") as home:
        hashed = await Passwords(CHEAPEST).hash("une phrase de passe")
        await UserStore(home.engine).add("charge", hashed, tenant="acme", scopes=scopes_of("member", "acme"))
        return await asyncio.to_thread(
            locust,
            home.url,
            *("--tenants", str(folder / "tenants.toml"), *options),
            LOAD_PASSWORD="une phrase de passe",
            LOAD_TOKEN=home.token("bob"),
            LOAD_NARROW=home.token("carole", requests_per_minute=2),
        )


async def test_everything_at_once_over_two_processes(tmp_path: Path) -> None:
    html = tmp_path / "report.html"
    report = await _run(
        tmp_path,
        *("--processes", "2", "-u", "60", "--arrival-rate", "30", "--shape", "spike", "--spike-base", "0.5"),
        *("--hold", "2", "--spike", "2", "--levels", str(tmp_path / "levels.toml"), "--html", str(html)),
    )
    assert report.code == 0, report.log
    asked = {name: entry["num_requests"] for name, entry in report.entries.items()}
    assert asked["POST login"] in (1, 2)  # one a process
    for name in ("streamed total", "plain total", "refused total", "over_limit total", "over_limit limited"):
        assert asked[name] > 0, name
    assert "plain limited" not in asked
    # 2 and 2 seconds at half the rate, 2 at all of it: 120 are due in the mean, of a Poisson process.
    whole = sum(count for name, count in asked.items() if name.startswith("tenant "))
    assert 60 <= whole <= 180
    assert asked["arrival wait"] == whole
    assert {name.partition(" ")[2] for name in asked if name.startswith("tenant ")} == {
        "mairie total", "lycée total", "étroit total", "étroit limited",
    }  # fmt: skip
    page = html.read_text(encoding="utf-8")
    assert all(name in page for name in ("inter_token", "over_limit", "tenant mairie"))


async def test_users_of_one_kind_can_be_named(tmp_path: Path) -> None:
    report = await _run(tmp_path, "--pause", "0.1", "OverLimitUser")
    assert report.code == 0, report.log
    assert report.entries["over_limit total"]["num_requests"] == 2
    assert report.entries["over_limit limited"]["num_requests"] > 2
    assert not [name for name in report.entries if name.startswith(("streamed", "plain", "refused"))]
