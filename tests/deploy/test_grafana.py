"""Grafana's boards: as they are made of boards.yml, complete, and of queries that parse and find something."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from tests.deploy.queries import GRAFANA, metrics_in, promtool
from tests.deploy.test_prometheus import known, unknown
from tests.gateway.figures import Figures

FILES = sorted((GRAFANA / "dashboards").glob("*.json"))
BOARDS: dict[str, dict[str, Any]] = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in FILES}
PROVISIONING = GRAFANA / "provisioning"


def panels() -> list[Any]:
    """Every panel that shows something."""
    return [
        pytest.param(panel, id=f"{name}: {panel['title']}")
        for name, board in BOARDS.items()
        for panel in board["panels"]
        if panel["type"] != "row"
    ]


def plain(query: str) -> str:
    """A query as Prometheus gets it, Grafana's variables replaced."""
    for name, value in {"$__rate_interval": "1m", "$__range": "6h", "$model": ".*", "$instance": ".*"}.items():
        query = query.replace(name, value)
    return query


def queries_of(board: dict[str, Any]) -> list[str]:
    return [target["expr"] for panel in board["panels"] for target in panel.get("targets", [])]


def maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("boards", GRAFANA / "boards.py")
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def test_the_files_are_what_the_description_makes() -> None:
    made = maker()
    boards = {board["uid"]: made.text(board) for board in made.boards()}
    assert boards == {path.stem: path.read_text(encoding="utf-8") for path in FILES}


def test_the_boards_have_uids_and_titles_of_their_own() -> None:
    assert [board["uid"] for board in BOARDS.values()] == list(BOARDS)
    assert len({board["title"] for board in BOARDS.values()}) == len(BOARDS) == 4


@pytest.mark.parametrize("panel", panels())
def test_a_panel_is_complete(panel: dict[str, Any]) -> None:
    assert panel["title"]
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["targets"]
    assert {source["uid"] for source in (panel["datasource"], *(each["datasource"] for each in panel["targets"]))} == {
        "prometheus"
    }
    assert all(target["expr"] for target in panel["targets"])
    assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])


@pytest.mark.parametrize("name", BOARDS)
def test_panels_have_places_and_numbers_of_their_own(name: str) -> None:
    numbers = [panel["id"] for panel in BOARDS[name]["panels"]]
    assert len(set(numbers)) == len(numbers)
    taken: set[tuple[int, int]] = set()
    for panel in BOARDS[name]["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        squares = {(place["x"] + dx, place["y"] + dy) for dx in range(place["w"]) for dy in range(place["h"])}
        assert not squares & taken, panel["title"]
        taken |= squares


@pytest.mark.parametrize("name", BOARDS)
def test_every_variable_of_a_query_is_one_of_the_board(name: str) -> None:
    board = BOARDS[name]
    variables = {variable["name"] for variable in board["templating"]["list"]}
    used = {word for query in queries_of(board) for word in ("model", "instance") if f"${word}" in query}
    assert used == variables
    assert not [query for query in queries_of(board) if "$" in plain(query)]


@pytest.mark.parametrize("name", BOARDS)
async def test_every_name_in_a_board_is_shown(name: str, shown: Figures) -> None:
    names, board = known(shown), BOARDS[name]
    asked = [*map(plain, queries_of(board)), *(variable["definition"] for variable in board["templating"]["list"])]
    assert all(map(metrics_in, asked))
    assert {query: found for query in asked if (found := unknown(query, names))} == {}


def test_every_query_parses(tmp_path: Path) -> None:
    every = [plain(query) for board in BOARDS.values() for query in queries_of(board)]
    rules = [{"record": f"board:query:{number}", "expr": query} for number, query in enumerate(every)]
    file = tmp_path / "queries.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "boards", "rules": rules}]}), encoding="utf-8")
    assert f"{len(every)} rules found" in promtool("check", "rules", file)


def test_the_source_and_the_folder_of_boards_are_provided() -> None:
    (source,) = yaml.safe_load((PROVISIONING / "datasources" / "prometheus.yml").read_text(encoding="utf-8"))[
        "datasources"
    ]
    assert (source["uid"], source["type"], source["url"]) == ("prometheus", "prometheus", "http://prometheus:9090")
    (provider,) = yaml.safe_load((PROVISIONING / "dashboards" / "passerelle.yml").read_text(encoding="utf-8"))[
        "providers"
    ]
    assert provider["options"]["path"] == "/var/lib/grafana/dashboards"
