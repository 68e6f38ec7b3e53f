"""A target's tokenizer.json: read at start and at a reload, told by its key where it cannot be used."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway.app import create_app
from gateway.reckoning import Reckoner
from gateway.reload import Reload
from gateway.routing import Catalogue
from gateway.settings import BadSettings, Settings
from gateway.tokenizer import Tokenizer
from tests.gateway import vocabularies
from tests.gateway.requests import request
from tests.house import MODEL, house
from tests.upstream import Exchange, chunk


def settings(path: Path, **tables: Any) -> Settings:
    """Model `m` with one target that has a tokenizer."""
    target = {"kind": "vllm", "urls": ["http://h/v1"], "model": "x", "tokenizer": str(path)}
    return Settings.model_validate({"targets": {"a": target}, "models": {"m": {"targets": ["a"]}}, **tables})


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"", "is not a tokenizer.json that can be used"),
        (b"{}", "is not a tokenizer.json that can be used"),
        (b"\xff", "is not a tokenizer.json that can be used"),
        (b'{"model_max_length": 2048}', "is not a tokenizer.json that can be used"),
    ],
    ids=["missing", "empty", "object", "binary", "another file"],
)
def test_a_file_that_cannot_be_used_stops_the_start_and_is_told_by_its_key(
    tmp_path: Path, content: bytes | None, reason: str
) -> None:
    path = tmp_path / "tokenizer.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BadSettings) as caught:
        create_app(settings(path, state={"directory": tmp_path}))
    assert str(caught.value) == f"targets.a.tokenizer holds '{path}', which {reason}."


def test_a_folder_is_no_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match=r"targets\.a\.tokenizer holds .* cannot be read: Is a directory"):
        Reckoner(settings(tmp_path))


def test_commands_that_count_nothing_need_no_tokenizer(tmp_path: Path) -> None:
    assert settings(tmp_path / "gone").targets["a"].tokenizer == tmp_path / "gone"


async def test_a_reload_reads_a_file_that_changed_and_only_that_and_refuses_a_broken_one(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for folder, model in ((first, vocabularies.byte_level()), (second, vocabularies.byte_fallback())):
        folder.mkdir()
        vocabularies.saved(model, folder)
    path = tmp_path / "tokenizer.json"
    shutil.copy(first / "tokenizer.json", path)
    started = settings(path)
    reckoner = Reckoner(started)
    (held,) = reckoner.tokenizers.values()

    async def replaced(_: Settings) -> None: ...

    reload = Reload(started, lambda: settings(path), Catalogue(started), reckoner, replaced)
    with capture_logs() as logs:
        await reload.now()
        assert reckoner.tokenizers[path] is held
        shutil.copy(second / "tokenizer.json", path)
        await reload.now()
        assert reckoner.tokenizers[path].counts(["déposé"]) == Tokenizer(second / "tokenizer.json").counts(["déposé"])
        now = reckoner.tokenizers[path]
        path.write_text("{}")
        await reload.now()
    assert reckoner.tokenizers[path] is now is not held
    assert [entry["event"] for entry in logs] == ["reloaded", "reloaded", "reload_refused"]
    assert logs[2]["reason"].startswith(f"targets.a.tokenizer holds '{path}'")


async def test_a_request_of_a_target_whose_tokenizer_is_gone_is_reckoned_by_its_bytes(tmp_path: Path) -> None:
    of = settings(vocabularies.saved(vocabularies.byte_level(), tmp_path)).targets["a"]
    reckoner, bare = Reckoner(settings(tmp_path / "tokenizer.json")), Reckoner(Settings())
    asked = request()
    assert await reckoner.prompt_tokens(of, asked) < await bare.prompt_tokens(of, asked)
    reckoner.replace({})
    assert await reckoner.prompt_tokens(of, asked) == await bare.prompt_tokens(of, asked)


@pytest.mark.parametrize("known", [True, False], ids=["tokenizer", "bytes"])
async def test_where_no_usage_is_said_the_ledger_has_the_tokenizer_s_count(tmp_path: Path, *, known: bool) -> None:
    text = "Comment puis-je suivre mon avis ? Wxyz, kjw."

    async def says_no_usage(exchange: Exchange) -> None:
        await exchange.head()
        await exchange.text("Voici une réponse ", "tout à fait française.")
        await exchange.event(chunk({}, finish="stop"))
        await exchange.event("[DONE]")
        await exchange.end()

    path = vocabularies.saved(vocabularies.byte_level(), tmp_path)
    async with house(tmp_path, targets={"local": {"tokenizer": path if known else None}}) as home:
        home.local.answers(says_no_usage)
        raw = await home.client().chat.completions.with_raw_response.create(
            model=MODEL, messages=[{"role": "user", "content": text}]
        )
        (row,) = await home.ledger(raw.headers["x-request-id"])
    expected = Tokenizer(path).counts([text])[0] if known else 1 + len(text) // 4
    assert (row["prompt_tokens"], row["completion_tokens"], row["usage_source"]) == (expected, 2, "local")
    assert Tokenizer(path).counts([text])[0] != 1 + len(text) // 4
