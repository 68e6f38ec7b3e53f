import json
from pathlib import Path

import pytest

from serving.embedded import EMBEDDED
from serving.hub import cache_folder
from serving.profiles import ProfileError, find_profile, load_profile, profile_names
from tests.serving.test_model import FALCON_7B, SMOLLM2

GOOD = 'model = "a/b"\nserved_name = "b"\ncontext = 2048\nlicence = "MIT"\n'


def test_every_profile_loads_and_names_its_licence() -> None:
    falcons = {f"falcon{name}-instruct" for name in ("-7b", "-40b", "3-1b", "3-3b", "3-7b", "3-10b", "-h1-7b")}
    assert set(profile_names()) == falcons | set(EMBEDDED)
    for name in profile_names():
        profile = find_profile(name)
        assert profile.licence
        assert profile.known is not None
        assert profile.context <= profile.known.max_positions
        assert profile.embedded in {None, *EMBEDDED}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (GOOD + "colour = 1\n", r"unknown key colour = 1; allowed are model, .*defaults"),
        (GOOD.replace("2048", '"long"'), r"context = 'long' must be of type int"),
        (GOOD.replace("2048", "0"), r"context = 0 must be a positive number"),
        (GOOD.replace('licence = "MIT"\n', ""), r"licence is missing"),
        (GOOD + 'template = "none.jinja"\n', r"template = 'none.jinja' is no file; allowed are falcon.jinja"),
        (GOOD + "[defaults]\nheat = 2\n", r"unknown key defaults.heat = 2; allowed are .*temperature"),
        (GOOD + "[config]\nhidden_size = 8\n", r"has no num_hidden_layers"),
        ("model = ", r"is not TOML"),
    ],
)
def test_a_mistake_is_told_with_key_value_and_what_is_allowed(tmp_path: Path, text: str, sentence: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(Exception, match=sentence):
        load_profile(path)


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ProfileError, match=r"--model falcon-7c: .*allowed are .*falcon-7b-instruct.*owner/name"):
        find_profile("falcon-7c")


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("tiiuae/falcon-7b-instruct", "falcon-7b-instruct"),
        ("tiiuae/Falcon3-1B-Instruct", "falcon3-1b-instruct"),
        ("someone/Other-Model", "other-model"),
    ],
)
def test_a_hub_id_finds_its_profile_or_a_plain_one(model: str, name: str) -> None:
    profile = find_profile(model)
    assert (profile.name, profile.model) == (name, model)
    assert not profile.local


def test_a_falcon_folder_without_a_template_gets_ours(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({**FALCON_7B, "architectures": ["FalconForCausalLM"]}))
    profile = find_profile(str(tmp_path))
    assert profile.template is not None
    assert profile.template.name == "falcon.jinja"
    assert profile.local
    (tmp_path / "chat_template.jinja").write_text("{{ messages }}")
    assert find_profile(str(tmp_path)).template is None


def test_another_folder_keeps_what_it_brings(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({**SMOLLM2, "architectures": ["LlamaForCausalLM"]}))
    profile = find_profile(str(tmp_path))
    assert profile.template is None
    assert profile.context == 2048


def test_a_hub_models_dimensions_come_from_the_hubs_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    assert find_profile("someone/Other-Model").known is None
    folder = tmp_path / "models--someone--Other-Model"
    for revision, layers in (("aaa", 1), ("bbb", 32)):
        snapshot = folder / "snapshots" / revision
        snapshot.mkdir(parents=True)
        config = {**FALCON_7B, "num_hidden_layers": layers, "architectures": ["FalconForCausalLM"]}
        (snapshot / "config.json").write_text(json.dumps(config))
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("bbb")
    profile = find_profile("someone/Other-Model")
    assert profile.known is not None
    assert profile.known.layers == 32
    assert profile.template is not None


@pytest.mark.parametrize(
    ("environment", "folder"),
    [
        ({"HF_HUB_CACHE": "/a"}, "/a"),
        ({"HF_HOME": "/b"}, "/b/hub"),
        ({"XDG_CACHE_HOME": "/c"}, "/c/huggingface/hub"),
        ({}, str(Path.home() / ".cache/huggingface/hub")),
    ],
)
def test_the_hubs_cache_is_where_its_client_keeps_it(environment: dict[str, str], folder: str) -> None:
    assert cache_folder(environment) == Path(folder)
