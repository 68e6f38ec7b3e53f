"""`passerelle top` as an operator types it, one look at real gateways; in a terminal: `test_top_terminal`."""

import asyncio
import json
import os
import re
import signal
import sys
from asyncio.subprocess import Process
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from auth.principal import HOUSE, SCOPES_OF_ROLE, scopes_of
from gateway.app import create_app
from gateway.settings import Settings
from tests.gateway.test_hangup import started as running
from tests.gateway.test_status import FRENCH, LOOSE, ROOT, SECRET, Held, ask, status, token_of, under_way
from tests.house import MODEL, House, house
from tests.loopback import serve
from tests.upstream import says, upstream
from tests.vllm_server import free_port

FAST = ("--every", "0.5")


async def started(*words: str, token: str | None = None, **streams: Any) -> Process:
    environment = {name: value for name, value in os.environ.items() if name != "PASSERELLE_TOKEN"}
    environment |= {"PASSERELLE_TOKEN": token} if token else {}
    environment |= streams.pop("environment", {})
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway.cli", "top", *words),
        env=environment,
        **{"stdin": asyncio.subprocess.DEVNULL, **streams},
    )


async def top(*words: str, token: str | None = None, **environment: str) -> tuple[int, str, str]:
    """Run it to its end: the exit code and what it printed."""
    pipe = asyncio.subprocess.PIPE
    process = await started(*words, token=token, stdout=pipe, stderr=pipe, environment=environment)
    out, err = await asyncio.wait_for(process.communicate(), 60)
    return process.returncode or 0, out.decode(), err.decode()


async def test_one_look_is_printed_and_holds_no_word_of_a_prompt(tmp_path: Path) -> None:
    limits = {"requests_per_minute": 4, "model": {"concurrent": 2}}
    async with house(tmp_path, limits=limits, times=LOOSE) as home:
        held = Held()
        home.local.answers(held)
        async with under_way(held, [ask(home.client())]):
            code, out, err = await top("--url", home.url, *FAST, token=home.token(**ROOT))
        assert (code, err) == (0, "")
        for word in (
            "local/0",
            "closed",
            MODEL,
            "req_",
            "acme",
            "asked",
            "1 under way",
            "requests/min",
            "alice",
        ):
            assert word in out, word
        assert "\x1b" not in out
        assert all(line == line.rstrip() for line in out.splitlines())
        assert SECRET not in out


async def test_as_json_it_can_be_read_by_a_program(tmp_path: Path) -> None:
    async with house(tmp_path, times=LOOSE) as home:
        home.local.answers(says(FRENCH))
        pipe, asked = asyncio.subprocess.PIPE, 0
        process = await started("--json", *FAST, "--url", home.url, token=home.token(**ROOT), stdout=pipe)
        reading = asyncio.create_task(process.communicate())
        while not reading.done():
            await ask(home.client())
            asked += 1
        (gateway,) = json.loads((await reading)[0])["gateways"]
        assert (process.returncode, gateway["url"], gateway["away_since"], gateway["reason"]) == (
            0,
            home.url,
            None,
            None,
        )
        assert 0 < gateway["status"]["installation"]["counts"]["requests"] <= asked
        rates = gateway["rates"]
        assert rates["seconds"] >= 0.5
        assert rates["requests"] > 0
        assert rates["tokens"] > 0
        assert rates["first_text_p50"] > 0
        assert (rates["errors"], rates["refusals"]) == (0, 0)


async def test_answers_that_ended_before_the_first_look_are_of_the_last_minute(tmp_path: Path) -> None:
    async with house(tmp_path, times=LOOSE) as home:
        home.local.answers(says(FRENCH))
        for _ in range(3):
            await ask(home.client())
        code, out, _ = await top("--json", "--url", home.url, *FAST, token=home.token(**ROOT))
        (gateway,) = json.loads(out)["gateways"]
        assert (code, gateway["rates"]["requests"]) == (0, 0)
        assert gateway["french"] == {"french": 3, "repaired": 0, "not_french": 0, "foreign": 0, "share": 1}
        _, out, _ = await top("--once", "--url", home.url, *FAST, token=home.token(**ROOT))
        assert re.search(r"100% +3/0/0/0", out)


async def test_a_tenant_s_operator_sees_its_own_tenant_and_is_told_so(tmp_path: Path) -> None:
    async with house(tmp_path, limits={"requests_per_minute": 4}) as home:
        for tenant in ("acme", "globex"):
            await ask(home.client(subject=f"user-of-{tenant}", tenant=tenant))
        token = home.token("op", tenant="acme", scopes=SCOPES_OF_ROLE["operator"])
        code, out, _ = await top("--url", home.url, *FAST, token=token)
        assert code == 0
        assert "of tenant acme only" in out
        assert "user-of-acme" in out
        assert "globex" not in out
        assert "local/0" not in out


@pytest.mark.parametrize("how", ["environment", "file"])
async def test_without_the_scope_one_sentence_says_who_has_it(home: House, tmp_path: Path, how: str) -> None:
    (tmp_path / "key").write_text(home.token() + "\n")
    words = ("--key-file", str(tmp_path / "key")) if how == "file" else ()
    code, out, err = await top(*words, "--url", home.url, token=None if words else home.token())
    assert (code, out) == (1, "")
    assert re.fullmatch(r"passerelle: http.* refuses: .*'operate'.* Operators have it: .*\n", err)


async def test_a_key_that_does_not_hold_is_one_sentence_and_is_not_shown(home: House) -> None:
    code, _, err = await top("--url", home.url, token="psl_wrong")
    assert code == 1
    assert err.count("\n") == 1
    assert "does not let in" in err
    assert "psl_wrong" not in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "PASSERELLE_TOKEN is not set: set it, give --key-file FILE, or log in with --user NAME."),
        (("--key-file", "/nowhere"), "--key-file holds '/nowhere', which cannot be read: No such file or directory."),
        (
            ("--key-file", "/dev/null"),
            "--key-file holds '/dev/null', which must hold one API key or token and nothing else.",
        ),
        (
            ("--url", "gateway:8000"),
            "--url holds 'gateway:8000', but must be an address such as http://127.0.0.1:8000.",
        ),
    ],
)
async def test_a_wrong_command_is_one_sentence(words: tuple[str, ...], said: str) -> None:
    assert await top(*words) == (1, "", f"passerelle: {said}\n")


@pytest.mark.parametrize("token", ["psl_one\npsl_two", "psl_\u2192"])
async def test_what_cannot_be_sent_as_a_key_is_not_shown(token: str) -> None:
    said = "PASSERELLE_TOKEN holds a value that is not one API key or token and nothing else."
    assert await top("--url", "http://127.0.0.1:9", token=token) == (1, "", f"passerelle: {said}\n")


async def test_every_is_a_number_of_seconds() -> None:
    for text in ("0", "soon", "nan"):
        code, _, err = await top("--every", text)
        assert code == 2
        assert "is no number of seconds from 0.5 to 3600" in err


async def test_a_gateway_that_is_away_beside_one_that_is_there_is_told_by_the_exit_code(home: House) -> None:
    gone = f"http://127.0.0.1:{free_port()}"
    code, out, err = await top("--url", home.url, "--url", f"{gone}/v1/", *FAST, token=home.token(**ROOT))
    assert (code, err) == (1, "")
    assert re.search(r"away since \d\d:\d\d:\d\d UTC", out)
    assert f"{gone} cannot be reached" in out
    assert "local/0" in out
    code, out, _ = await top("--json", "--url", gone, token="x")
    assert code == 1
    assert json.loads(out)["gateways"][0]["status"] is None


async def test_what_is_no_gateway_and_a_redirect_are_told(home: House) -> None:
    async def moved(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            headers = [(b"location", f"{home.url}/admin/status".encode())]
            await send({"type": "http.response.start", "status": 307, "headers": headers})
            await send({"type": "http.response.body", "body": b""})

    async def other(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"<html>"})

    for app, said in ((moved, "answers with a redirect"), (other, "not as a gateway of this version does")):
        async with serve(app, lifespan="off") as url:
            code, out, err = await top("--url", url, token=home.token(**ROOT))
            assert (code, out) == (1, "")
            assert said in err


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that signs itself, and its key."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([])
    now, alternative = datetime.now(UTC), x509.SubjectAlternativeName([x509.DNSName("localhost")])
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + timedelta(days=1))
        .add_extension(alternative, critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "key.pem").write_bytes(private)
    return folder / "cert.pem", folder / "key.pem"


async def test_a_certificate_that_is_not_trusted_is_told_and_one_that_is_serves(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path)
    target = {"kind": "vllm", "urls": ["http://127.0.0.1:1/v1"], "model": "m"}
    settings = {"state": {"directory": tmp_path}, "targets": {"local": target}, "models": {"m": {"targets": ["local"]}}}
    app = create_app(Settings.model_validate(settings))
    async with serve(app, ssl_certfile=cert, ssl_keyfile=key) as url:
        port = url.rpartition(":")[2]
        token = House(url, Settings.model_validate(settings), None, None, None).token(**ROOT)  # type: ignore[arg-type]
        code, _, err = await top("--url", f"https://localhost:{port}", token=token)
        assert code == 1
        assert re.fullmatch(
            r"passerelle: https.* shows a certificate that is not trusted here .*SSL_CERT_FILE\.\n", err
        )
        trusted = {"SSL_CERT_FILE": str(cert)}
        code, _, err = await top("--url", f"https://127.0.0.1:{port}", token=token, **trusted)
        assert (code, "use the name that it is for" in err) == (1, True)
        code, out, _ = await top("--url", f"https://localhost:{port}", *FAST, token=token, **trusted)
        assert (code, "local/0" in out) == (0, True)


async def test_a_worker_that_hangs_is_told_and_holds_up_nobody(tmp_path: Path) -> None:
    async with upstream() as model, running(tmp_path, 2, model.url) as gateway:
        await gateway.logged("Application startup complete", 2)
        url, token = f"http://127.0.0.1:{gateway.port}", token_of(gateway, "root", scopes_of("operator", HOUSE), HOUSE)
        code, out, _ = await top("--url", url, *FAST, token=token)
        assert (code, "2 of 2" in out) == (0, True)
        pids = [worker["pid"] for worker in (await status(url, token))["installation"]["workers"]]
        os.kill(pids[0], signal.SIGSTOP)
        try:
            code, out, _ = await top("--url", url, *FAST, token=token)
        finally:
            os.kill(pids[0], signal.SIGCONT)
        assert (code, "1 of 2" in out) == (0, True)
        assert "workers that do not answer: 1" in out
        assert "requests/s" in out  # both looks were without it
