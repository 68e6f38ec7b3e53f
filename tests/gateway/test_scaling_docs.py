"""The configurations in docs/scaling.md are read as they stand there."""

import re
import tomllib
from pathlib import Path

import pytest

from gateway.routing import Catalogue
from gateway.settings import Settings

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
