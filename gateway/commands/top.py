"""`passerelle top`: what an operator sees first when something is wrong."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from gateway.commands.login import Login
    from gateway.commands.looks import Gateway, Seen
    from gateway.commands.typing import Subparsers

_URL: Final = "http://127.0.0.1:8000"
_SHORTEST: Final = 0.5  # seconds between two looks
_WIDTH: Final = 160  # columns of what is printed and not shown
_KEYS: Final = 0.25  # seconds after which the size of the terminal is looked at again

_EXAMPLE = """examples:
  PASSERELLE_TOKEN=psl_... passerelle top
  passerelle top --user root                             (asks for the password)
  passerelle top --url http://10.0.0.5:8000 --url http://10.0.0.6:8000 --key-file operator.key
  passerelle top --once                                  one look, printed; also where the output is no terminal
  passerelle top --json | jq '.gateways[].status.in_flight'
"""


def add_command(commands: Subparsers) -> None:
    """Register the command."""
    command = commands.add_parser(
        "top",
        help="live requests, queues, replicas and limits of running gateways",
        description="Shows what gateways do, again and again, until q or Ctrl-C. Needs the scope `operate`; what belongs to the "
        "installation is shown to who has `tenants` too. API key or token: $PASSERELLE_TOKEN, a file, or by logging in. "
        "Printed once where the output is no terminal; the exit code is 1 then if a gateway is away.",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("--url", action="append", help=f"a gateway; repeatable (default: {_URL})")
    command.add_argument(
        "--every", type=_seconds, default=2.0, metavar="SECONDS", help="between two looks (default: 2)"
    )
    command.add_argument("--once", action="store_true", help="print what there is and end; rates are those of --every")
    command.add_argument("--json", action="store_true", help="the same as JSON")
    command.add_argument("--tenant", help="live requests and limits of this tenant only")
    who = command.add_mutually_exclusive_group()
    who.add_argument("--user", help="log in under this name; the password is asked for")
    who.add_argument("--key-file", type=Path, metavar="FILE", help="a file that holds an API key or a token")
    command.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Look once, or until somebody has seen enough."""
    from gateway.commands.looks import Gateway

    urls = [_base(url) for url in dict.fromkeys(args.url or [_URL])]
    keys = _keys(args, urls)
    gateways = [Gateway(url, key, args.tenant) for url, key in zip(urls, keys, strict=True)]
    _look(gateways)
    dumb = os.environ.get("TERM", "dumb") in ("dumb", "unknown")
    if args.once or args.json or dumb or not sys.stdout.isatty():
        if any(gateway.seen.status for gateway in gateways):
            time.sleep(args.every)
            _look(gateways)
        return _print([gateway.seen for gateway in gateways], as_json=args.json)
    return _watch(gateways, args.every)


def _look(gateways: Sequence[Gateway]) -> None:
    """Ask all of them at once; raises BadSettings."""
    with ThreadPoolExecutor(len(gateways)) as pool:
        for asked in [pool.submit(gateway.look) for gateway in gateways]:
            asked.result()


def _print(seen: Sequence[Seen], *, as_json: bool) -> int:
    if as_json:
        print(json.dumps({"gateways": list(map(_document, seen))}, indent=2))
    else:
        from rich.console import Console

        from gateway.commands.screen import view

        width = None if sys.stdout.isatty() else _WIDTH
        console = Console(width=width, highlight=False, no_color=not sys.stdout.isatty())
        console.print(view(seen, console.width))
    return 1 if any(one.away_since for one in seen) else 0


def _document(seen: Seen) -> dict[str, Any]:
    import msgspec

    here = seen.status if seen.away_since is None else None
    minute = here.installation.minute if here is not None and here.installation is not None else None
    return {
        "url": seen.url,
        "away_since": seen.away_since.isoformat(timespec="seconds") if seen.away_since else None,
        "reason": seen.reason,
        "status": msgspec.to_builtins(here),
        "rates": seen.rates.document() if seen.rates else None,
        "french": {**msgspec.to_builtins(minute), "share": minute.share} if minute is not None else None,
    }


def _watch(gateways: Sequence[Gateway], every: float) -> int:
    from rich.console import Console
    from rich.live import Live

    from gateway.commands.screen import view
    from gateway.commands.terminal import Keys

    # The terminal has to be put back however this ends. Nothing is raised: it could be in a finaliser, where it is passed over.
    codes: list[int] = []
    signal.signal(signal.SIGINT, lambda *_: codes.append(0))
    signal.signal(signal.SIGTERM, lambda *_: codes.append(128 + signal.SIGTERM))
    ended, console = threading.Event(), Console(highlight=False)
    for gateway in gateways:
        threading.Thread(target=_keep_looking, args=(gateway, every, ended), daemon=True).start()
    shown: Any = None
    try:
        with Keys() as keys, Live(console=console, screen=True, auto_refresh=False) as live:
            while not codes:
                now = ([gateway.seen for gateway in gateways], console.size)
                if now != shown:
                    live.update(view(now[0], *now[1]), refresh=True)
                    shown = now
                if "q" in keys.pressed(_KEYS).lower():
                    codes.append(0)
        return codes[0]
    finally:
        ended.set()


def _keep_looking(gateway: Gateway, every: float, ended: threading.Event) -> None:
    from gateway.settings import BadSettings

    while not ended.wait(every):
        try:
            gateway.look()
        except BadSettings as refused:  # it did not refuse before: what changed there may change again
            gateway.lost(str(refused))


def _keys(args: argparse.Namespace, urls: Sequence[str]) -> list[Callable[[], str]]:
    """What gives the key for each gateway."""
    from gateway.settings import BadSettings

    if args.user is not None:
        import getpass

        password = getpass.getpass(f"Password of {args.user}: ")
        return [_Logged(url, args.user, password).key for url in urls]
    if args.key_file is not None:
        return [partial(_key_in, args.key_file)] * len(urls)
    key = os.environ.get("PASSERELLE_TOKEN", "").strip()
    if not key:
        raise BadSettings("PASSERELLE_TOKEN is not set: set it, give --key-file FILE, or log in with --user NAME.")
    if not _is_key(key):
        raise BadSettings("PASSERELLE_TOKEN holds a value that is not one API key or token and nothing else.")
    return [lambda: key] * len(urls)


class _Logged:
    """A user who logs in as soon as the gateway is there."""

    def __init__(self, url: str, user: str, password: str) -> None:
        self._url, self._user, self._password = url, user, password
        self._login: Login | None = None

    def key(self) -> str:
        """A token that holds; raises BadSettings, or Away."""
        from gateway.commands.login import Away, Login
        from gateway.settings import BadSettings

        if self._login is not None:
            try:
                return self._login.current()
            except Away:
                raise
            except BadSettings:  # the session has ended: once more from the start
                self._login = None
        self._login = Login(self._url, self._user, self._password)
        return self._login.token


def _key_in(path: Path) -> str:
    from gateway.settings import BadSettings

    try:
        key = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not a text file"
        raise BadSettings(f"--key-file holds {str(path)!r}, which cannot be read: {reason}.") from None
    if not _is_key(key):
        raise BadSettings(f"--key-file holds {str(path)!r}, which must hold one API key or token and nothing else.")
    return key


def _is_key(text: str) -> bool:
    return bool(text) and text.isascii() and text.isprintable() and " " not in text


def _base(url: str) -> str:
    from urllib.parse import urlsplit

    from gateway.settings import BadSettings

    base = url.rstrip("/").removesuffix("/v1")
    if not base.startswith(("http://", "https://")) or not urlsplit(base).hostname:
        raise BadSettings(f"--url holds {url!r}, but must be an address such as {_URL}.")
    return base


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not _SHORTEST <= seconds <= 3600:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds from {_SHORTEST} to 3600")
    return seconds
