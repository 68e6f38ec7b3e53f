"""Performs the entries of the runbook (docs/operations.md) against a running installation. Standard library alone.

  python -m deploy.drill drill.toml                    all entries
  python -m deploy.drill drill.toml --only key --only bill
  python -m deploy.drill --example > drill.toml        a file to begin with

The key of an administrator of the installation is in $PASSERELLE_DRILL_KEY:
  passerelle keys add drill --user root --scope admin --scope operate --scope tenants --scope chat --scope models --expires-in 1
Everything is put back as it was, also after a failure, Ctrl-C or SIGTERM; the drill's own tenants stay, disabled. An
entry that the installation does not allow is skipped with the reason. Exit code 0 when none failed and one at least passed.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path

from deploy.drill.entries import ENTRIES
from deploy.drill.installation import Failed, Installation, Skipped, read

KEY = "PASSERELLE_DRILL_KEY"

EXAMPLE = """\
# What the drill may do to this installation, and how: that of docker-compose.yml, run in the repository's root. Commands are
# run by the shell, in the folder of this file.
url = "http://127.0.0.1:8000"
model = "falcon-7b-instruct"
config = "deploy/passerelle.toml"              # the gateways' configuration, put back as it was; left out: no bill, no drift
reload = "docker compose kill --signal HUP gateway-a gateway-b"
patience = 120                                 # seconds for whatever takes its time

# Of each gateway: its address (default: /metrics of the url), or a command that prints what is there.
metrics = [
  "docker compose exec -T gateway-a python -c \\"import urllib.request as r; print(r.urlopen('http://127.0.0.1:8000/metrics').read().decode())\\"",
  "docker compose exec -T gateway-b python -c \\"import urllib.request as r; print(r.urlopen('http://127.0.0.1:8000/metrics').read().decode())\\"",
]

[replica]                                      # left out: not tried
hang = "docker compose pause vllm"
wake = "docker compose unpause vllm"
others = false                                 # true: another replica or target answers meanwhile; false: 503

[redis]
stop = "docker compose stop redis"
start = "docker compose start redis"
"""


def main() -> int:
    """0 when every entry asked for passed or was skipped with a reason, and one at least passed."""
    parser = argparse.ArgumentParser(
        prog="python -m deploy.drill", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("plan", type=Path, nargs="?", metavar="FILE", help="what may be done, and how")
    parser.add_argument("--only", action="append", choices=list(ENTRIES), help="this entry; repeatable (default: all)")
    parser.add_argument("--example", action="store_true", help="print a file to begin with")
    options = parser.parse_args()
    if options.example:
        print(EXAMPLE, end="")
        return 0
    if options.plan is None:
        parser.error("name the file (--example prints one)")
    if not os.environ.get(KEY):
        print(
            f"drill: ${KEY} is empty: put an administrator's key there (--help says how to make one)", file=sys.stderr
        )
        return 1
    try:
        here = Installation(read(options.plan), os.environ[KEY])
    except Failed as error:
        print(f"drill: {error}", file=sys.stderr)
        return 1
    if refused := _refused(here):
        print(f"drill: {refused} (--help says how to make a key)", file=sys.stderr)
        return 1
    for number in (signal.SIGINT, signal.SIGTERM):  # SIGINT too: a shell has its background jobs pass it over
        signal.signal(number, signal.default_int_handler)
    try:
        results = [_perform(name, here) for name in options.only or ENTRIES]
    except KeyboardInterrupt:
        print("drill: broken off; what was changed is put back", file=sys.stderr)
        return 130
    counts = [results.count(passed) for passed in (True, False, None)]
    print("{} passed, {} failed, {} skipped".format(*counts))
    return 0 if False not in results and True in results else 1


def _refused(here: Installation) -> str:
    """Why no entry can be tried with this key; empty when it is good, or when nobody answers, as the entries will tell."""
    try:
        reply = here.ask("GET", "/admin/audit?limit=1")
    except Failed:
        return ""
    return f"${KEY} is not let in: {reply.body[:200].decode(errors='replace')}" if reply.status in (401, 403) else ""


def _perform(name: str, here: Installation) -> bool | None:
    """True, False, or None where it was skipped."""
    entry = ENTRIES[name]
    print(f"{name}: {(entry.__doc__ or '').partition(':')[0]}…", flush=True)
    try:
        print(f"  passed: {entry(here)}", flush=True)
    except Skipped as reason:
        print(f"  skipped: {reason}", flush=True)
        return None
    except Failed as error:
        print(f"  FAILED: {error}. See docs/operations.md.", flush=True)
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
