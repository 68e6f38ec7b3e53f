"""What a runner is told of an installation: the JSON file that its `--config` names."""

from __future__ import annotations

import json
import tomllib
from typing import Any

from auth.signing import keys_from_folder
from tests.conformance.stage import ADMIN, CONFIGURATION, KEYS, Stage

PER_MINUTE = 10

_ALICE = {"username": "alice", "password": "motdepasse-9", "may_leave": True}
_BOB = {"username": "bob", "password": "motdepasse-8", "may_leave": True, "requests_per_minute": PER_MINUTE}


def description(stage: Stage) -> dict[str, Any]:
    """What the runner is told: addresses, users it may be (made here), how to forge a token, limits, hooks."""
    tables = tomllib.loads(CONFIGURATION.read_text(encoding="utf-8"))
    admin = stage.login(ADMIN)
    alice, _ = (stage.request("/admin/users", "application/json", json.dumps(user), admin) for user in (_ALICE, _BOB))
    keys = stage.folder / "signing-keys"
    claims = {
        "iss": tables["auth"]["issuer"],
        "sub": alice["id"],
        "jti": "forged",
        "scope": "chat models",
        "tenant": "default",
    }
    return {
        "base_url": f"http://127.0.0.1:{stage.gateway.port}",
        "chat": "/v1/chat/completions",
        "models": "/v1/models",
        "health": "/readyz",
        "fakes": dict(stage.upstreams),
        "model": next(iter(tables["models"])),
        "keys": KEYS,
        "token": stage.login(_ALICE),
        "limited_token": stage.login(_BOB),
        "user": {"name": _ALICE["username"], "password": _ALICE["password"]},
        "limited_user": {"name": _BOB["username"], "password": _BOB["password"]},
        "no_rate_limit": True,
        "login": {
            "path": "/auth/token",
            "form": {"grant_type": "password", "username": "{user}", "password": "{password}"},
            "token_field": "access_token",
        },
        "login_limited": stage.login_per_minute > 0,
        "register": {
            "path": "/admin/users",
            "json": {"username": "{user}", "password": "{password}"},
            "headers": {"authorization": f"Bearer {admin}"},
        },
        "jwt": {
            "alg": "ES256",
            "private_key_file": str(min(keys.glob("*.pem"))),
            "kid": keys_from_folder(keys).newest.kid,
            "audience": tables["auth"]["audience"],
            "claims": claims,
        },
        "limits": {
            "idle_s": tables["times"]["idle"],
            "first_byte_s": tables["times"]["first_content"],
            "shutdown_s": tables["server"]["shutdown_seconds"],
            "body_bytes": tables["server"]["body_limit_bytes"],
            "per_minute": PER_MINUTE,
            "login_per_minute": stage.login_per_minute or 10,
        },
        "guard": dict(zip(("term", "short_term"), tables["guards"]["terms"]["terms"], strict=True)),
        "hooks": stage.hooks,
    }
