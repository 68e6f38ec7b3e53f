"""Plays files of cases, with a runner that somebody else wrote, against the gateway as it is shipped.

    python -m tests.conformance --cases cases.jsonl --runner run_cases.py --fake fake_upstream.py

- `__main__`   the command: reads the cases, plays them, adds up
- `cases`      which cases share an installation, and which need one of their own
- `stage`      one installation: two fake model servers, Valkey, the gateway with `passerelle.toml`
- `description`  what the runner is told of it: addresses, users, keys, limits, hooks
- `programs`   a server process that shell commands can stop and start
- `listening`  waits for a port
"""
