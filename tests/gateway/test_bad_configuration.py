"""Each kind of bad configuration stops `passerelle gateway` with one sentence: which key, what it held, what is allowed."""

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.engine import make_url

from auth import database, schema
from tests.gateway.test_chaos_redis import Valkey
from tests.stores import execute
from tests.vllm_server import free_port

SECRET = "hunter2"
CONFIG = """
[server]
port = {port}
[state]
directory = "{folder}/state"
[targets.local]
kind = "vllm"
urls = ["http://127.0.0.1:1/v1"]
model = "falcon"
[models.m]
targets = ["local"]
"""


def gateway(config: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """What becomes of a gateway that cannot start."""
    return subprocess.run(
        [sys.executable, "-m", "gateway.cli", "gateway", "--config", str(config)],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **environment},
        check=False,
    )


def refused(config: Path, **environment: str) -> str:
    """The one sentence."""
    ended = gateway(config, **environment)
    sentences = [line for line in ended.stderr.splitlines() if not line.startswith("{")]
    assert (ended.returncode, len(sentences)) == (1, 1), ended.stderr
    assert "Traceback" not in ended.stderr
    assert SECRET not in ended.stderr
    assert sentences[0].startswith("passerelle: ")
    assert sentences[0].endswith(".")
    return sentences[0].removeprefix("passerelle: ")


def written(folder: Path, more: str = "") -> Path:
    """A configuration that works, but for what comes after it."""
    (folder / "passerelle.toml").write_text(CONFIG.format(port=free_port(), folder=folder) + more, encoding="utf-8")
    return folder / "passerelle.toml"


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ("[server.wrong]", "server.wrong is not a setting (see passerelle.example.toml for the ones there are)."),
        ("[wrong]", "wrong is not a setting (see passerelle.example.toml for the ones there are)."),
        ("[times]\nidle = 'long'", "times.idle holds 'long', but input should be a valid number"),
        ("[times]\nidle = -1", "times.idle holds -1, but input should be greater than 0."),
        ("times = 3", "models.m.times is not a setting"),
        ("[fail_policy]\nredis = 'pray'", "fail_policy.redis holds 'pray', but input should be 'degrade' or 'refuse'."),
        ("[models.n]\ntargets = ['none']", "models.n.targets holds 'none', which is no target (allowed: local)."),
        ("[targets.b]\nkind = 'vllm'\nmodel = 'x'", "targets.b.urls is missing"),
        ("[models.n]\ntargets = ['local', 'local']", "models.n.targets holds a value, but entry 2 stands there twice."),
        (
            f"[targets.b]\nkind = 'vllm'\nmodel = 'x'\nurls = ['ftp://u:{SECRET}@h']",
            "targets.b.urls.0 holds a value, but URL scheme should be 'http' or 'https'.",
        ),
        (
            "[targets.b]\nkind = 'vllm'\nmodel = 'x'\nurls = ['http://h']\napi_key_file = '/nowhere/key'",
            "targets.b.api_key_file holds '/nowhere/key', which cannot be read: No such file or directory.",
        ),
        (
            "[targets.b]\nkind = 'vllm'\nmodel = 'x'\nurls = ['http://h']\napi_key_env = 'NO_SUCH_KEY'",
            "targets.b.api_key_env holds 'NO_SUCH_KEY', a variable that is not set in the environment.",
        ),
        (
            "[targets.b]\nkind = 'vllm'\nmodel = 'x'\nurls = ['http://h']\ntokenizer = '/nowhere/tokenizer.json'",
            "targets.b.tokenizer holds '/nowhere/tokenizer.json', which cannot be read: No such file or directory.",
        ),
        (f"[auth]\nsigning_key = '{SECRET}'", "auth has a signing_key that holds no P-256 private key (PEM or JWK)."),
        (
            "[auth]\nsigning_keys = '/nowhere'",
            "auth.signing_keys holds '/nowhere', which is no folder: make it, or mount",
        ),
        (f"[auth]\napi_key_secret = '{SECRET}'", "auth.api_key_secret holds a value, but"),
        ("[guards.moderation]\njudge = 'none'", "guards.moderation.judge holds 'none', which is no target of the kind"),
        ("[guards.models.n]", "guards.models holds 'n', which is no published model (allowed: m)."),
        ("[limits.models.n]", "limits.models holds 'n', which is no published model (allowed: m)."),
        ("[money]\nreference = 'none'", "money.reference holds 'none', which is no target with a price."),
    ],
)
def test_a_wrong_value(tmp_path: Path, more: str, sentence: str) -> None:
    assert refused(written(tmp_path, more)).startswith(sentence)


DATABASES = [
    ("postgresql:/wrong", "state.database_url holds no address of a database: write sqlite:///file or"),
    (f"mysql://u:{SECRET}@h/d", "state.database_url holds no address of a database: write sqlite:///file or"),
    (
        f"postgresql://u:{SECRET}@nowhere.invalid/d",
        "state.database_url holds 'postgresql://u:***@nowhere.invalid/d', which cannot",
    ),
    (
        f"postgresql://u:{SECRET}@127.0.0.1:1/d",
        "state.database_url holds 'postgresql://u:***@127.0.0.1:1/d', which cannot be used",
    ),
    ("sqlite:////dev/null/x.db", "The database file /dev/null/x.db cannot be made: File exists."),
    (SECRET, "state.database_url holds no address of a database: write sqlite:///file or"),
]


@pytest.mark.parametrize(("url", "sentence"), DATABASES)
def test_a_wrong_database(tmp_path: Path, url: str, sentence: str) -> None:
    assert refused(written(tmp_path), PASSERELLE_STATE__DATABASE_URL=url).startswith(sentence)


async def test_a_database_s_wrong_user_name_and_revision(
    tmp_path: Path, postgres_url: str, postgres_database: str
) -> None:
    address = make_url(postgres_url)

    async def told(url: str) -> str:
        return await asyncio.to_thread(refused, written(tmp_path), PASSERELLE_STATE__DATABASE_URL=url)

    def at(**changes: Any) -> str:
        return address.set(**changes).render_as_string(hide_password=False)

    assert 'database "gone" does not exist.' in await told(at(database="gone"))
    stranger = await told(at(username="nobody", password=SECRET))
    assert stranger.startswith("state.database_url holds 'postgresql://nobody:***@")
    engine = database.engine(postgres_database)
    await schema.prepare(engine)
    await engine.dispose()
    await execute(postgres_database, "UPDATE auth_revision SET version_num = '9999'")
    newer = await told(postgres_database)
    assert newer.startswith("The auth tables cannot go to revision 'head'")
    assert "needs that one, or its `passerelle database downgrade`." in newer


@pytest.mark.parametrize("url", [f"http://u:{SECRET}@h", SECRET, "redis://127.0.0.1:port"])
def test_a_wrong_redis_address(tmp_path: Path, url: str) -> None:
    assert refused(written(tmp_path), PASSERELLE_STATE__REDIS_URL=url).startswith(
        "state.redis_url holds no address of a Redis: write redis://"
    )


async def test_a_redis_that_wants_another_password(tmp_path: Path) -> None:
    valkey = Valkey()
    await valkey.start()
    try:
        url = valkey.url.replace("//", f"//somebody:{SECRET}@")
        sentence = await asyncio.to_thread(refused, written(tmp_path), PASSERELLE_STATE__REDIS_URL=url)
    finally:
        await valkey.stop()
    assert sentence.startswith("state.redis_url holds 'redis://somebody:***@127.0.0.1:")
    assert ", which refuses us: " in sentence


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda path: None, "which cannot be read: No such file or directory."),
        (lambda path: path.mkdir(), "which cannot be read: Is a directory."),
        (lambda path: path.write_text("[server"), "which is not a TOML file: "),
        (lambda path: path.write_bytes(b"# \xff\xfe"), "which is not a TOML file: "),
    ],
    ids=["missing", "a folder", "no TOML", "no UTF-8"],
)
def test_a_wrong_file(tmp_path: Path, make: Callable[[Path], object], sentence: str) -> None:
    path = tmp_path / "passerelle.toml"
    make(path)
    assert sentence in refused(path)


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("PASSERELLE_SERVER__PORT", "http", "server.port holds 'http', but input should be a valid integer"),
        (
            "PASSERELLE_SERVER__PORT",
            "70000",
            "server.port holds '70000', but input should be less than or equal to 65535.",
        ),
        ("PASSERELLE_SERVER_PORT", "8000", "PASSERELLE_SERVER_PORT is set in the environment, but is not a setting"),
        (
            "PASSERELLE_SERVER__DRAIN_SECONDS",
            "100",
            "server has drain_seconds = 100, but shutdown_seconds, which holds it, is",
        ),
        ("PASSERELLE_SERVER__PROT", "8000", "server.prot is not a setting"),
        ("PASSERELLE_MODELS", "m", "PASSERELLE_MODELS holds no JSON, but lists and tables are written as JSON in the"),
        (
            "PASSERELLE_SERVER__HOST",
            "nowhere.invalid",
            "server.host holds 'nowhere.invalid', which is no address of this",
        ),
        (
            "PASSERELLE_SERVER__HOST",
            "192.0.2.1",
            "server.host holds '192.0.2.1', which is no address of this machine: ",
        ),
        ("PASSERELLE_STATE__DIRECTORY", "/dev/null", "state.directory holds '/dev/null', which cannot be used: Not a"),
        (
            "PASSERELLE_STATE__DIRECTORY",
            "/proc/passerelle",
            "state.directory holds '/proc/passerelle', which cannot be used:",
        ),
    ],
)
def test_a_wrong_variable(tmp_path: Path, name: str, value: str, sentence: str) -> None:
    assert refused(written(tmp_path), **{name: value}).startswith(sentence)


def test_a_port_that_somebody_has(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        sentence = refused(written(tmp_path), PASSERELLE_SERVER__PORT=str(port))
    assert sentence == (
        f"server.port holds {port}, which another program has on 127.0.0.1: stop that one, or choose another port."
    )


def test_a_journal_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "journal").write_text("")
    sentence = refused(written(tmp_path))
    assert sentence.startswith(f"state.directory holds '{tmp_path}/state', which cannot be used: ")


def test_a_signing_key_that_is_broken(tmp_path: Path) -> None:
    folder = tmp_path / "state" / "signing-keys"
    folder.mkdir(parents=True)
    (folder / "0001.pem").write_text(f"-----BEGIN {SECRET}")
    (folder / "0001.pem").chmod(0o600)
    assert refused(written(tmp_path)).startswith(f"The signing key {folder}/0001.pem holds no private key")
    (folder / "0001.pem").chmod(0o644)
    assert f"run `chmod 600 {folder}/0001.pem`" in refused(written(tmp_path))


def test_a_machine_without_a_folder_for_temporary_files_is_told_what_to_do(tmp_path: Path) -> None:
    nowhere = "import sys, tempfile; tempfile.tempdir = '/nowhere'; from gateway.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", nowhere, "gateway", "--config", str(written(tmp_path))]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    told = "passerelle: TMPDIR holds no folder for the metrics of the workers (No such file or directory): mount a writable /tmp"
    assert (ended.returncode, ended.stderr.strip()) == (1, f"{told}, or set TMPDIR.")
