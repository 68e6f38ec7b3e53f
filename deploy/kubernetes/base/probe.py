"""Is a server in order? For health checks: exit code 0 or 1, one sentence on stderr. Standard library alone.

probe.py http://127.0.0.1:8000/readyz                      it answers 200
probe.py --chat MODEL http://127.0.0.1:8000                its /health does, and MODEL answers with one token;
                                                           the key is in $VLLM_API_KEY
"""

import argparse
import http.client
import json
import os
import sys
import urllib.error
import urllib.request


def ask(url: str, body: dict[str, object] | None, seconds: float) -> str:
    """Why `url` is not in order; empty when it answers 200. A body is posted with the key."""
    request = urllib.request.Request(url, json.dumps(body).encode() if body else None)  # noqa: S310  # checked in main
    if body:
        request.add_header("Content-Type", "application/json")
        request.add_header("Authorization", f"Bearer {os.environ.get('VLLM_API_KEY', '')}")
    # Straight to the server, also where the environment names a proxy for the outside.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=seconds) as reply:
            reply.read()
            return "" if reply.status == 200 else f"{url} answers {reply.status}"
    except urllib.error.HTTPError as error:
        with error:
            return f"{url} answers {error.code}: {error.read(500).decode(errors='replace')}"
    except (OSError, http.client.HTTPException) as error:
        return f"{url}: {error}"


def main() -> int:
    """0 when everything asked for is in order."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", help="with --chat the server's root, else what is fetched")
    parser.add_argument("--chat", metavar="MODEL", help="ask this model for one token")
    parser.add_argument("--seconds", type=float, default=7, help="time limit of a request (default: %(default)s)")
    options = parser.parse_args()
    if not options.url.startswith(("http://", "https://")):
        parser.error(f"{options.url!r} must begin with http:// or https://")
    if not options.chat:
        wrong = ask(options.url, None, options.seconds)
    else:
        question = {"model": options.chat, "max_tokens": 1, "messages": [{"role": "user", "content": "Bonjour"}]}
        wrong = ask(f"{options.url}/health", None, 2) or ask(
            f"{options.url}/v1/chat/completions", question, options.seconds
        )
    if wrong:
        print(wrong, file=sys.stderr)  # noqa: T201  # a script talks to its terminal
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
