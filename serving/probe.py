"""Is the model server able to answer? `/health` alone can be green over an engine that dies at its first request."""

from __future__ import annotations

import http.client
import json
import os
import urllib.error
import urllib.request

from serving.plan import Plan

HEALTH_SECONDS = 2.0
ANSWER_SECONDS = 120.0


def answers(plan: Plan) -> bool:
    """True when `/health` is green and a chat of one token is answered. Uses $VLLM_API_KEY like the server itself."""
    question = {"model": plan.served_name, "max_tokens": 1, "messages": [{"role": "user", "content": "Bonjour"}]}
    chat = urllib.request.Request(f"{plan.base_url}/chat/completions", json.dumps(question).encode())  # noqa: S310 - http
    chat.add_header("Content-Type", "application/json")
    if key := os.environ.get("VLLM_API_KEY"):
        chat.add_header("Authorization", f"Bearer {key}")
    return _ok(f"{plan.url}/health", HEALTH_SECONDS) and _ok(chat, ANSWER_SECONDS)


def _ok(request: str | urllib.request.Request, seconds: float) -> bool:
    # Straight to the server, also where the environment names a proxy for the outside.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=seconds) as reply:
            reply.read()
            return bool(reply.status == 200)
    except urllib.error.HTTPError as error:
        error.close()
        return False
    except (OSError, http.client.HTTPException):
        return False
