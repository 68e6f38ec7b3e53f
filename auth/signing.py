"""The keys that sign tokens: ES256 only (ECDSA on P-256 with SHA-256, RFC 7518 §3.4)."""

import base64
import hashlib
import itertools
import json
import os
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from jose import jwk
from jose.backends.base import Key
from jose.exceptions import JWKError

from auth.errors import BadConfiguration
from auth.new_file import new_file

ALGORITHM = "ES256"
PUBLISHED_S = 300  # how long verifiers may keep the published set, and so how long a new key only verifies
_PEM = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.+?-----END [A-Z ]*PRIVATE KEY-----", re.DOTALL)


@dataclass(frozen=True)
class SigningKey:
    """One P-256 key pair; `kid` is the RFC 7638 thumbprint of its public half, so it needs no bookkeeping.

    `since`: when it was published, in seconds since 1970; 0 when that is not known. `number`: that of its file, if it has one.
    """

    kid: str
    private: Key
    public: Key
    public_jwk: dict[str, str]
    since: float = 0
    number: str = ""


class KeySet:
    """The keys this installation trusts, oldest first: all verify, the newest signs once it has been published a while."""

    def __init__(self, keys: Iterable[SigningKey]) -> None:
        """Raise BadConfiguration when there is no key."""
        self.version = 0
        self.replace(keys)

    def replace(self, keys: Iterable[SigningKey]) -> None:
        """Go on with these keys and a `version` of one more; raises BadConfiguration when there is none."""
        found = {key.kid: key for key in keys}
        if not found:
            raise BadConfiguration("There is no signing key.")
        self._keys = found
        self.version += 1

    @property
    def newest(self) -> SigningKey:
        """The key that signs, or will."""
        return list(self._keys.values())[-1]

    def signer(self, now: float) -> SigningKey:
        """The newest of the keys that every verifier has had the time to fetch; `now` in seconds since 1970."""
        known = [key for key in self._keys.values() if key.since + PUBLISHED_S <= now]
        return known[-1] if known else next(iter(self._keys.values()))

    def by_kid(self, kid: object) -> SigningKey | None:
        """Give the key of that id; ids are looked up here and nowhere else, so a path or URL in one means nothing."""
        return self._keys.get(kid) if isinstance(kid, str) else None

    def all(self) -> list[SigningKey]:
        """The keys, oldest first."""
        return list(self._keys.values())

    def jwks(self) -> dict[str, list[dict[str, str]]]:
        """Give the public keys as a JWK set (RFC 7517 §5)."""
        return {"keys": [key.public_jwk for key in self._keys.values()]}


class KeyFolder:
    """A folder of `NNNN.pem` and `NNNN.json` (JWK) files, the highest name being the newest key."""

    def __init__(self, folder: Path) -> None:
        """The first start makes the folder and `0001.pem`.

        Raises BadConfiguration when a file is no P-256 private key or can be read by other users of the machine.
        """
        self._folder = folder
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not _key_files(folder):
                with new_file(folder / "0001.pem") as draft:
                    draft.write_text(new_pem())
        except OSError as error:
            raise BadConfiguration(f"The signing keys in {folder} cannot be read or made: {error}.") from error
        self._seen = self._look()
        self.keys = KeySet(self._read())

    def refresh(self) -> bool:
        """Read the folder again if it has changed; whether it had. When it raises BadConfiguration the keys stay as they were."""
        seen = self._look()
        if seen == self._seen:
            return False
        self.keys.replace(self._read())
        self._seen = seen
        return True

    def rotate(self, *, at_once: bool = False) -> SigningKey:
        """Add a key. It signs when every verifier can know it, after `PUBLISHED_S`, or `at_once` if the old one is not safe."""
        number = int(_key_files(self._folder)[-1].stem) + 1
        path = self._folder / f"{number:04}.pem"
        with new_file(path) as draft:
            draft.write_text(new_pem())
            if at_once:
                os.utime(draft, (time.time(), time.time() - PUBLISHED_S - 1))
        self.refresh()
        return self.keys.newest

    def prune(self, now: float, older_s: float) -> list[str]:
        """Remove the keys that have signed nothing for `older_s` seconds; their ids. Their tokens have long expired by then."""
        files, gone = _key_files(self._folder), []
        for path, successor in itertools.pairwise(files):
            if successor.stat().st_mtime + PUBLISHED_S + older_s <= now:
                gone += [key.kid for key in self._from(path)]
                path.unlink()
        self.refresh()
        return gone

    def remove(self, name: str) -> None:
        """Remove a key that is not safe any more, by its id or number: every token it signed is void. Raises BadConfiguration."""
        files = _key_files(self._folder)
        found = [path for path in files if name == path.stem or name in {key.kid for key in self._from(path)}]
        if not found:
            raise BadConfiguration(f"There is no signing key {name!r} in {self._folder}.")
        if len(files) == len(found):
            raise BadConfiguration("This is the only signing key: rotate first.")
        for path in found:
            path.unlink()
        self.refresh()

    def _look(self) -> list[tuple[str, float]]:
        try:
            return [(path.name, path.stat().st_mtime) for path in _key_files(self._folder)]
        except OSError as error:
            raise BadConfiguration(f"The signing keys in {self._folder} cannot be read: {error}.") from error

    def _read(self) -> list[SigningKey]:
        return [key for path in _key_files(self._folder) for key in self._from(path)]

    def _from(self, path: Path) -> list[SigningKey]:
        try:
            text, since = _read_private(path), path.stat().st_mtime
        except (OSError, UnicodeDecodeError) as error:
            raise BadConfiguration(f"The signing keys in {self._folder} cannot be read: {error}.") from error
        if not (keys := _parse(text, str(path))):
            raise BadConfiguration(
                f"The signing key {path} holds no private key (PEM or JWK): restore it, or remove the file."
            )
        return [replace(key, since=since, number=path.stem) for key in keys]


def keys_from_text(text: str) -> KeySet:
    """Read private keys from a setting: a JWK, a JWK set, or PEM blocks, the newest last; raises BadConfiguration."""
    return KeySet(_parse(text, "the signing key setting"))


def keys_from_folder(folder: Path) -> KeySet:
    """The keys of a folder as they are now; see KeyFolder."""
    return KeyFolder(folder).keys


def new_pem() -> str:
    """Make a P-256 private key, as PKCS #8 PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def thumbprint(members: dict[str, str]) -> str:
    """RFC 7638 §3: SHA-256 over the required members alone, in lexicographic order, without white space."""
    text = json.dumps(members, separators=(",", ":"), sort_keys=True)
    return _base64url(hashlib.sha256(text.encode()).digest())


def _key_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix in {".pem", ".json"})


def _read_private(path: Path) -> str:
    mode = path.stat().st_mode & 0o777
    if os.name == "posix" and mode & 0o077:
        raise BadConfiguration(
            f"Signing key {path} can be read by other users (mode {mode:04o}): run `chmod 600 {path}`."
        )
    return path.read_text()


def _parse(text: str, where: str) -> list[SigningKey]:
    try:
        if text.lstrip().startswith("{"):
            document = json.loads(text)
            return [_from_jwk(entry) for entry in document.get("keys", [document])]
        return [_from_pem(block) for block in _PEM.findall(text)]
    except (ValueError, TypeError, KeyError, AttributeError, JWKError, UnsupportedAlgorithm) as error:
        # Not chained into the message: a parser's complaint may quote the key.
        raise BadConfiguration(f"A key in {where} is not an unencrypted P-256 private key (PEM or JWK).") from error


def _from_jwk(document: dict[str, str]) -> SigningKey:
    if document["kty"] != "EC" or document["crv"] != "P-256" or "d" not in document:
        raise ValueError("not a P-256 private key")
    return _from_pem(jwk.construct(document, ALGORITHM).to_pem().decode())


def _from_pem(text: str) -> SigningKey:
    key = load_pem_private_key(text.encode(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise TypeError("not a P-256 private key")
    point = key.public_key().public_numbers()
    members = {"crv": "P-256", "kty": "EC", "x": _coordinate(point.x), "y": _coordinate(point.y)}
    kid = thumbprint(members)
    public_jwk = members | {"kid": kid, "use": "sig", "alg": ALGORITHM}
    return SigningKey(kid, jwk.construct(text, ALGORITHM), jwk.construct(public_jwk, ALGORITHM), public_jwk)


def _coordinate(number: int) -> str:
    return _base64url(number.to_bytes(32, "big"))


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
