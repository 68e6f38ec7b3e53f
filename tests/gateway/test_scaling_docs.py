"""The configurations in docs/scaling.md are read as they stand there."""

import re
import tomllib
from pathlib import Path

import pytest

from gateway.routing import Catalogue
from gateway.settings import Settings
from serving.plan import Options
from serving.prepare import make

TEXT = (Path(__file__).parents[2] / "docs" / "scaling.md").read_text(encoding="utf-8")
KEY_FILE = "/etc/passerelle/vllm-key"
BLOCKS = re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS, ids=["machines", "adapters"])
def test_a_configuration_of_the_page_is_a_catalogue(block: str, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("a key")
    settings = Settings.model_validate(tomllib.loads(block.replace(KEY_FILE, str(tmp_path / "key"))))
    found = Catalogue(settings)
    assert found.names() == list(settings.models)
    assert len({id(pool.admission) for pool in found.pools.values()}) == 1


def test_what_the_page_shows_of_a_plan_for_two_machines_is_in_it() -> None:
    shown = re.findall(r"^(--\S+) +(\S+) +(\S.*)$", TEXT, re.MULTILINE)
    plan = make(Options(model="falcon-40b-instruct", gpus="2xRTX A4500", nodes=2))
    assert len(shown) == 4
    assert set(shown) <= {(setting.name, setting.value, setting.reason) for setting in plan.settings}
