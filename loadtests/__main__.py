"""`python -m loadtests`: locust with our file. With `--help` it shows our options too, for which locust alone is too early."""

from __future__ import annotations

import sys
from pathlib import Path

from locust import events, main

from loadtests import options

_FILE = Path(__file__).with_name("locustfile.py")

if __name__ == "__main__":
    if {"-h", "--help"} & set(sys.argv[1:]):
        events.init_command_line_parser.add_listener(lambda parser, **_: options.add(parser))  # type: ignore[no-untyped-call]
    sys.argv[:] = ["locust", "-f", str(_FILE), *sys.argv[1:]]
    main.main()  # type: ignore[no-untyped-call]  # locust has no type for it
