"""The demo: a user, one French question through the official SDK, and what the house did about it."""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING, Any

from gateway.commands.login import token

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gateway.settings import Settings

USER = "demo"
QUESTION = "Comment puis-je suivre mon avis ?"  # no apostrophe: it also stands in a shell line
_LEDGER_SECONDS = 10

_SNIPPETS = """
Try it yourself (the user lives until the state folder is removed):

  export TOKEN=$(curl -s {url}/auth/token -d grant_type=password -d username={user} -d password={password} \\
          | python3 -c 'import json, sys; print(json.load(sys.stdin)["access_token"])')
  curl -N {url}/v1/chat/completions -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' \\
       -d '{{"model": "{model}", "stream": true, "messages": [{{"role": "user", "content": "{question}"}}]}}'

And in Python, in the same shell, with .venv/bin/python:

import os
from openai import OpenAI
client = OpenAI(base_url="{url}/v1", api_key=os.environ["TOKEN"])
messages = [{{"role": "user", "content": "{question}"}}]
for chunk in client.chat.completions.create(model="{model}", messages=messages, stream=True):
    print(chunk.choices[0].delta.content or "", end="", flush=True)
"""


def show(settings: Settings, url: str, model: str) -> bool:
    """Run the demo against a gateway on this machine; whether a French answer came."""
    password = secrets.token_urlsafe(15)
    asyncio.run(_add_user(settings, password))
    print(f"\nQuestion ({model}): {QUESTION}\nRéponse : ", end="", flush=True)
    headers, finish = _ask(url, model, token(url, USER, password))
    print("\nWhat the guards decided:")
    for name in ("guards", "target", "repairs", "attempts"):
        if value := headers.get(f"x-passerelle-{name}"):
            print(f"  {name:<9} {value}")
    print(f"  {'finish':<9} {finish}")
    print("\nThe request in the ledger:")
    for row in asyncio.run(_ledger(settings, headers["x-request-id"])):
        print("  " + "  ".join(f"{key}={row[key]}" for key in row if row[key] is not None and key != "subject"))
    print(_SNIPPETS.format(url=url, user=USER, password=password, model=model, question=QUESTION), flush=True)
    verdict = dict(part.split("=") for part in headers.get("x-passerelle-guards", "").split("; ") if "=" in part)
    return finish in ("stop", "length") and verdict.get("language") in ("passed", "modified")


def _ask(url: str, model: str, key: str) -> tuple[Mapping[str, str], str]:
    from openai import OpenAI

    client = OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0)
    raw = client.chat.completions.with_raw_response.create(
        model=model, messages=[{"role": "user", "content": QUESTION}], stream=True
    )
    finish = "none"
    for chunk in raw.parse():
        for choice in chunk.choices:
            print(choice.delta.content or "", end="", flush=True)
            finish = choice.finish_reason or finish
    print()
    return raw.headers, finish


async def _add_user(settings: Settings, password: str) -> None:
    """Make the demo user, or give the one of an earlier run a new password."""
    from auth import database
    from auth.errors import NameTaken
    from auth.passwords import Passwords
    from auth.principal import SCOPES_OF_ROLE
    from auth.store import UserStore

    engine = database.engine(settings.state.database())
    users, hashed = UserStore(engine), await Passwords().hash(password)
    try:
        await users.add(USER, hashed, tenant="demo", scopes=SCOPES_OF_ROLE["member"])
    except NameTaken:
        await users.set_password_hash(USER, hashed)
    finally:
        await engine.dispose()


async def _ledger(settings: Settings, request_id: str) -> list[dict[str, Any]]:
    """The rows of the request, once the gateway has moved them from its journal."""
    from auth import database
    from gateway.journal import Journal
    from gateway.ledger import Ledger, journal_folder

    engine = database.engine(settings.state.database())
    ledger = Ledger(engine, Journal(journal_folder(settings.state.directory)))
    try:
        for _ in range(_LEDGER_SECONDS * 10):
            if rows := await ledger.of(request_id):
                return rows
            await asyncio.sleep(0.1)
    finally:
        await engine.dispose()
    return []
