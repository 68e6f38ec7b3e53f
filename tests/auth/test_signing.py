import contextlib
import json
import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from jose import jwk, jws

from auth.errors import BadConfiguration, InvalidToken
from auth.signing import PUBLISHED_S, KeyFolder, keys_from_folder, keys_from_text, new_pem, thumbprint
from auth.tokens import Tokens


def pem(key: PrivateKeyTypes, password: bytes | None = None) -> str:
    encryption = BestAvailableEncryption(password) if password else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption).decode()


def private_jwk(text: str) -> dict[str, str]:
    return {str(name): str(value) for name, value in jwk.construct(text, "ES256").to_dict().items()}


def test_the_first_start_makes_a_key_that_only_its_owner_can_read(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    first = keys_from_folder(folder)
    assert [path.name for path in folder.iterdir()] == ["0001.pem"]
    assert stat.S_IMODE((folder / "0001.pem").stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert keys_from_folder(folder).newest.kid == first.newest.kid


def test_processes_that_start_at_once_agree_on_one_key(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from auth.signing import keys_from_folder; "
        "print(flush=True); sys.stdin.read(); print(keys_from_folder(Path(sys.argv[1])).newest.kid)"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "keys")]
    with contextlib.ExitStack() as stack:
        started = [
            stack.enter_context(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
            for _ in range(6)
        ]
        for process in started:
            assert process.stdout is not None
            process.stdout.readline()  # ready, and waiting for its standard input to end
        for process in started:
            assert process.stdin is not None
            process.stdin.close()
        kids = {process.stdout.read() for process in started if process.stdout}
    assert [process.returncode for process in started] == [0] * 6
    assert len(kids) == 1
    assert [path.name for path in (tmp_path / "keys").iterdir()] == ["0001.pem"]


@pytest.mark.skipif(os.name != "posix", reason="file modes")
@pytest.mark.parametrize("mode", [0o644, 0o640, 0o620, 0o604])
def test_a_key_that_others_can_read_stops_the_start_with_what_to_do(tmp_path: Path, mode: int) -> None:
    keys_from_folder(tmp_path)
    (tmp_path / "0001.pem").chmod(mode)
    with pytest.raises(BadConfiguration, match=r"0001\.pem can be read by other users .*: run `chmod 600 "):
        keys_from_folder(tmp_path)


def test_a_folder_that_cannot_be_used_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BadConfiguration, match="cannot be read or made"):
        keys_from_folder(tmp_path / "file" / "keys")


def test_a_second_key_in_the_folder_signs_and_both_are_published(tmp_path: Path) -> None:
    first = keys_from_folder(tmp_path).newest
    path = tmp_path / "0002.json"
    path.touch(0o600)
    path.write_text(json.dumps(private_jwk(new_pem())))
    keys = keys_from_folder(tmp_path)
    assert keys.newest.kid != first.kid
    assert [key["kid"] for key in keys.jwks()["keys"]] == [first.kid, keys.newest.kid]


def test_a_setting_can_hold_pem_blocks_a_jwk_or_a_jwk_set() -> None:
    one, two = new_pem(), new_pem()
    from_pem = keys_from_text(one + two)
    assert keys_from_text(json.dumps(private_jwk(two))).newest.kid == from_pem.newest.kid
    assert keys_from_text(json.dumps({"keys": [private_jwk(one), private_jwk(two)]})).jwks() == from_pem.jwks()


def test_what_is_published_holds_no_private_number() -> None:
    for key in keys_from_text(new_pem()).jwks()["keys"]:
        assert set(key) == {"kty", "crv", "x", "y", "kid", "use", "alg"}


def test_the_key_id_is_the_thumbprint_of_rfc_7638() -> None:
    # The example of RFC 9449 (DPoP), §4.1 and §6.1, which is a P-256 key.
    members = {
        "kty": "EC",
        "x": "l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs",
        "y": "9VE4jf_Ok_o64zbTTlcuNJajHmt6v9TDVrU0CdvGRDA",
        "crv": "P-256",
    }
    assert thumbprint(members) == "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"


PUBLIC = {name: value for name, value in private_jwk(new_pem()).items() if name != "d"}
UNUSABLE = {
    "nothing": "",
    "not a key": "secret",
    "RSA": pem(rsa.generate_private_key(65537, 2048)),
    "P-384": pem(ec.generate_private_key(ec.SECP384R1())),
    "Ed25519": pem(ed25519.Ed25519PrivateKey.generate()),
    "encrypted": pem(load_pem_private_key(new_pem().encode(), None), b"password"),
    "damaged PEM": new_pem().replace("M", "!", 1),
    "public JWK": json.dumps(PUBLIC),
    "symmetric JWK": json.dumps({"kty": "oct", "k": "c2VjcmV0"}),
    "JWK without members": "{}",
    "JWK set of strings": '{"keys": ["a"]}',
    "empty JWK set": '{"keys": []}',
    "JWK with a number that is no number": json.dumps(private_jwk(new_pem()) | {"d": "!"}),
    "JWK whose halves do not belong together": json.dumps(PUBLIC | {"d": "AQ"}),
    "not JSON": "{",
}


@pytest.mark.parametrize("text", UNUSABLE.values(), ids=UNUSABLE.keys())
def test_any_other_key_stops_the_start_without_being_quoted(text: str) -> None:
    with pytest.raises(BadConfiguration) as refused:
        keys_from_text(text)
    assert "P-256" in str(refused.value) or str(refused.value) == "There is no signing key."


def test_a_new_key_verifies_at_once_and_signs_when_everybody_can_have_fetched_it(tmp_path: Path) -> None:
    folder = KeyFolder(tmp_path)
    old = folder.keys.newest
    new, now = folder.rotate(), time.time()
    assert [key.kid for key in folder.keys.all()] == [old.kid, new.kid]
    assert folder.keys.jwks()["keys"] == [old.public_jwk, new.public_jwk]
    assert folder.keys.signer(now).kid == old.kid
    assert folder.keys.signer(now + PUBLISHED_S + 1).kid == new.kid


def test_a_worker_sees_a_rotation_without_a_restart_and_tokens_of_the_old_key_go_on(tmp_path: Path) -> None:
    worker, command = KeyFolder(tmp_path), KeyFolder(tmp_path)
    tokens = Tokens(worker.keys, "iss", "aud")
    before = tokens.issue("alice", {"chat"}, "acme")
    new = command.rotate(at_once=True)
    assert worker.keys.by_kid(new.kid) is None
    assert worker.refresh()
    assert not worker.refresh()
    after = tokens.issue("alice", {"chat"}, "acme")
    assert jws.get_unverified_header(after)["kid"] == new.kid
    assert [tokens.verify(token).principal.subject for token in (before, after)] == ["alice", "alice"]


def test_the_tokens_of_a_key_that_is_removed_are_void_also_where_they_are_remembered(tmp_path: Path) -> None:
    worker = KeyFolder(tmp_path)
    tokens = Tokens(worker.keys, "iss", "aud")
    token = tokens.issue("alice", {"chat"}, "acme")
    tokens.verify(token)
    command = KeyFolder(tmp_path)
    command.rotate()
    command.remove(worker.keys.newest.kid)
    worker.refresh()
    with pytest.raises(InvalidToken):
        tokens.verify(token)


def test_keys_are_pruned_when_their_tokens_have_expired_and_the_last_never(tmp_path: Path) -> None:
    folder = KeyFolder(tmp_path)
    old = folder.keys.newest
    new, now = folder.rotate(), time.time()
    assert folder.prune(now + PUBLISHED_S + 99, older_s=100) == []
    assert folder.prune(now + PUBLISHED_S + 101, older_s=100) == [old.kid]
    assert folder.prune(now + 1e9, older_s=100) == []
    assert [key.kid for key in folder.keys.all()] == [new.kid]


def test_the_only_key_and_an_unknown_one_are_not_removed(tmp_path: Path) -> None:
    folder = KeyFolder(tmp_path)
    with pytest.raises(BadConfiguration, match="rotate first"):
        folder.remove(folder.keys.newest.kid)
    with pytest.raises(BadConfiguration, match="no signing key 'other'"):
        folder.remove("other")


def test_a_folder_that_is_spoilt_later_changes_nothing_of_what_is_known(tmp_path: Path) -> None:
    worker = KeyFolder(tmp_path)
    kid = worker.keys.newest.kid
    (tmp_path / "0002.pem").write_text("rubbish")
    (tmp_path / "0002.pem").chmod(0o644)
    with pytest.raises(BadConfiguration):
        worker.refresh()
    assert worker.keys.newest.kid == kid
    (tmp_path / "0002.pem").unlink()
    assert not worker.refresh()
