"""A target's key from a file: read at start and at a reload, never shown."""

from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway.reckoning import Reckoner
from gateway.reload import Reload
from gateway.routing import Catalogue
from gateway.settings import BadSettings, Settings, load
from tests.house import LOOKING_ON, MODEL, house

KEY = "k-hunter2"


def settings(path: Path, **more: Any) -> Settings:
    """Model `m` with one target whose key lies in a file."""
    target = {"kind": "vllm", "urls": ["http://h/v1"], "model": "x", "api_key_file": str(path), **more}
    return Settings.model_validate({"targets": {"a": target}, "models": {"m": {"targets": ["a"]}}})


def refused(path: Path) -> str:
    with pytest.raises(BadSettings) as caught:
        Catalogue(settings(path))
    return str(caught.value)


@pytest.mark.parametrize("text", [KEY, f"{KEY}\n", f"{KEY}\r\n", f" \n{KEY}\t\n"])
def test_white_space_around_the_key_is_dropped(tmp_path: Path, text: str) -> None:
    path = tmp_path / "key"
    path.write_text(text, encoding="utf-8")
    pool = Catalogue(settings(path)).pools["a"]
    assert pool.key == KEY
    assert KEY not in repr(pool)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"", "is empty"),
        (b" \n\t", "is empty"),
        (f"{KEY}\xff".encode("latin-1"), "is not a text file"),
        (f"{KEY}\n{KEY}".encode(), "holds more than one line, or characters that no key has"),
        (f"{KEY}é".encode(), "holds more than one line, or characters that no key has"),
    ],
    ids=["missing", "empty", "blank", "binary", "two lines", "accent"],
)
def test_a_file_without_a_key_is_told_by_its_path_and_not_by_what_it_holds(
    tmp_path: Path, content: bytes | None, reason: str
) -> None:
    path = tmp_path / "key"
    if content is not None:
        path.write_bytes(content)
    assert refused(path) == f"targets.a.api_key_file holds '{path}', which {reason}."


def test_a_folder_is_no_key(tmp_path: Path) -> None:
    assert refused(tmp_path) == f"targets.a.api_key_file holds '{tmp_path}', which cannot be read: Is a directory."


def test_an_outside_fallback_is_not_left_out_for_want_of_its_file(tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match="cannot be read"):
        Catalogue(settings(tmp_path / "gone", kind="openai", outside=True))


def test_a_target_has_one_key(tmp_path: Path) -> None:
    table = "kind = 'vllm'\nurls = ['http://h/v1']\nmodel = 'x'\napi_key_env = 'HOME'\napi_key_file = '/k'\n"
    path = tmp_path / "passerelle.toml"
    path.write_text(f"[targets.a]\n{table}")
    with pytest.raises(BadSettings) as caught:
        load(path)
    assert str(caught.value) == "targets.a has both api_key_env and api_key_file, but a target has one key."


def test_the_other_commands_need_no_right_to_read_the_file(tmp_path: Path) -> None:
    assert settings(tmp_path / "gone").targets["a"].api_key_file == tmp_path / "gone"


async def test_the_model_server_gets_the_key_that_the_file_held_at_start(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text(f"{KEY}\n")
    keyed = {"api_key_env": None, "api_key_file": path}
    async with house(tmp_path, targets={"local": keyed}, guards=LOOKING_ON) as home:
        for content in ("another", None):
            await home.client().chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "Bonjour"}])
            path.unlink() if content is None else path.write_text(content)
    assert [asked.headers["authorization"] for asked in home.local.asked] == [f"Bearer {KEY}"] * 2


async def test_a_reload_reads_the_file_again_or_keeps_the_old_key(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text(KEY)
    started = settings(path)
    catalogue = Catalogue(started)

    async def replaced(_: Settings) -> None:
        pass

    reload = Reload(started, lambda: settings(path), catalogue, Reckoner(started), replaced)
    with capture_logs() as logs:
        path.write_text("k-new")
        await reload.now()
        assert catalogue.pools["a"].key == "k-new"
        path.write_text(f"{KEY}\n{KEY}")
        await reload.now()
    assert catalogue.pools["a"].key == "k-new"
    assert [entry["event"] for entry in logs] == ["reloaded", "reload_refused"]
    assert logs[1]["reason"].startswith(f"targets.a.api_key_file holds '{path}', which holds more than one line")
    assert KEY not in str(logs)
