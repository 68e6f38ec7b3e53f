"""What the check of a bearer token adds to a request: once it is known, and the first time.

All ways run in turns in one process, over the gateway's own `Verifier`, an SQLite file and an outside issuer whose keys this
process makes. What is left of a run is the least of its rounds: anything above it was somebody else on the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from jose import jws

from auth import bearer, database
from auth.credentials import Sealer
from auth.issuers import Issuer, OutsideTokens
from auth.keys import ApiKeys, KeyStore
from auth.revocations import Revocations
from auth.rights import Grant
from auth.signing import keys_from_text, new_pem
from auth.store import UserStore
from auth.tokens import Tokens
from auth.verifier import Verifier

LIMIT_US = 20
_ISSUER, _KID = "https://issuer.example", "bench"
_EXAMPLE = """example:
  python -m loadtests.bench.verification
  python -m loadtests.bench.verification --checks 20000 --json
"""

Check = Callable[[], Awaitable[object]]


async def measure(check: Check, checks: int) -> float:
    """Microseconds a check."""
    began = time.perf_counter()
    for _ in range(checks):
        await check()
    return (time.perf_counter() - began) / checks * 1e6


async def run(checks: int, rounds: int, folder: Path) -> dict[str, float]:
    """The least microseconds a check over the rounds, by the kind of token."""
    engine = database.engine(f"sqlite:///{folder}/bench.db")
    await UserStore(engine).create_schema()
    sealer = Sealer(b"a secret for this benchmark alone")
    store, revocations = KeyStore(engine, sealer), Revocations(engine)
    tokens = Tokens(keys_from_text(new_pem()), "bench", "bench", revocations=revocations)
    issuer, fetch, outside_token = _outside()
    outside = OutsideTokens([issuer], fetch=fetch)
    verifier = Verifier(tokens, ApiKeys(store, sealer), outside, revocations)
    alone = Verifier(tokens, ApiKeys(store, sealer), None, revocations)
    _, key = await store.add("bench", Grant(frozenset({"chat"})), tenant="bench")
    held = tokens.issue("alice", {"chat", "models", "usage"}, "bench")

    def of(token: str, by: Verifier = verifier) -> Check:
        header = f"Bearer {token}"
        return lambda: by.principal(bearer(header))

    ways: dict[str, Check] = {
        "token of ours, known": of(held, alone),
        "token of ours, known, with an outside issuer configured": of(held),
        "API key, known": of(key),
        "token of an outside issuer, known": of(outside_token),
    }
    found = dict.fromkeys(ways, float("inf"))
    for _ in range(rounds):
        for name, check in ways.items():
            found[name] = min(found[name], await measure(check, checks))
    fresh = [f"Bearer {tokens.issue('alice', {'chat'}, 'bench')}" for _ in range(max(1, checks // 20))]
    began = time.perf_counter()
    for header in fresh:
        await alone.principal(bearer(header))
    found["token of ours, first time"] = (time.perf_counter() - began) / len(fresh) * 1e6
    await outside.close()
    await engine.dispose()
    return found


def _outside() -> tuple[Issuer, Callable[[str], Awaitable[bytes]], str]:
    """An identity provider with one RSA key, how its keys are had, and a token of it."""
    key = rsa.generate_private_key(65537, 2048)
    numbers = key.public_key().public_numbers()
    e, n = (base64.urlsafe_b64encode(x.to_bytes((x.bit_length() + 7) // 8, "big")).rstrip(b"=").decode()
            for x in (numbers.e, numbers.n))  # fmt: skip
    published = json.dumps({"keys": [{"kty": "RSA", "kid": _KID, "alg": "RS256", "use": "sig", "e": e, "n": n}]})

    async def fetch(_url: str) -> bytes:
        return published.encode()

    issuer = Issuer(
        name="bench",
        issuer=_ISSUER,
        audience="bench",
        jwks_url=f"{_ISSUER}/jwks",
        algorithms=frozenset({"RS256"}),
        tenant="bench",
        tenant_claim=None,
        tenants=frozenset(),
        scope_claim="scope",
        scopes={},
        default_scopes=frozenset({"chat"}),
        may_leave=False,
        requests_per_minute=None,
    )
    now = int(time.time())
    claims = {"iss": _ISSUER, "aud": "bench", "sub": "alice", "iat": now, "exp": now + 3600}
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    return issuer, fetch, jws.sign(claims, pem, headers={"kid": _KID}, algorithm="RS256")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="python -m loadtests.bench.verification",
        description=__doc__,
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--checks", type=int, default=20_000, help="checks a round (default: %(default)s)")
    made.add_argument("--rounds", type=int, default=5, help="rounds (default: %(default)s)")
    made.add_argument("--json", action="store_true", help="the figures as JSON")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Print a table; exit code 1 when a known token takes longer than 20 microseconds."""
    args = parser().parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        found = asyncio.run(run(args.checks, args.rounds, Path(folder)))
    if args.json:
        sys.stdout.write(json.dumps(found) + "\n")
    else:
        for name, microseconds in found.items():
            sys.stdout.write(f"{microseconds:8.2f} µs  {name}\n")
    return int(any(value >= LIMIT_US for name, value in found.items() if "known" in name))


if __name__ == "__main__":
    sys.exit(main())
