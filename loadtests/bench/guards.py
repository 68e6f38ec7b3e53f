"""What the guards cost: the gateway's requests a second with every guard on, as a share of those with every guard off.

Two gateways of one process each on one core, the load and a model server that answers at once on another, in turns: off, on, on,
off, and so on. Both count every request in their ledger and check every token. The questions are those of the load tests, the
answers have sixteen tokens.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import aiohttp

from auth.signing import keys_from_folder
from auth.tokens import Tokens
from loadtests.bench.questions import QUESTIONS

WAYS = ("off", "on")
_GUARDS = ("language", "terms", "injection", "moderation", "distress", "leaks", "loops")
_SYSTEM = "Tu es l'assistant d'une plateforme d'avis. Tu réponds brièvement et poliment, sans jamais inventer de fait."
_TOKENS = (
    *("Vous", " pouvez", " suivre", " votre", " avis", " depuis", " votre", " espace"),
    *(" personnel", ".", " Un", " courriel", " annonce", " chaque", " étape", "."),
)
_EXAMPLE = """example:
  python -m loadtests.bench.guards --rounds 3 --seconds 4
"""


def _event(delta: dict[str, str], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return (
        b"data: " + json.dumps({"id": "x", "object": "chat.completion.chunk", "choices": [choice]}).encode() + b"\n\n"
    )


_USAGE = {"prompt_tokens": 40, "completion_tokens": len(_TOKENS), "total_tokens": 40 + len(_TOKENS)}
_ANSWER = (
    b"".join(_event({"content": token}) for token in _TOKENS)
    + _event({}, "stop")
    + b"data: "
    + json.dumps({"choices": [], "usage": _USAGE}).encode()
    + b"\n\ndata: [DONE]\n\n"
)
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: %d\r\n\r\n" % len(_ANSWER)
_RESPONSE = _HEAD + _ANSWER
_PACE = "pace-ms"  # in a request's body: milliseconds between two tokens
_EMPTY = b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 27\r\n\r\n{"object":"list","data":[]}'


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A model server that has its one answer ready."""
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(
                (line[15:] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), b"0"
            )
            body = await reader.readexactly(int(length))
            if head.startswith(b"GET"):
                writer.write(_EMPTY)
            elif pace := json.loads(body).get(_PACE):
                await _paced(writer, pace / 1000)
            else:
                writer.write(_RESPONSE)
            await writer.drain()
    writer.close()


async def _paced(writer: asyncio.StreamWriter, seconds: float) -> None:
    """The answer token by token, as a model says it."""
    writer.write(_HEAD)
    for event in _ANSWER.split(b"\n\n")[:-1]:
        writer.write(event + b"\n\n")
        await writer.drain()
        await asyncio.sleep(seconds)


def _configuration(folder: Path, port: int, upstream: int, *, on: bool) -> Path:
    guards = {} if on else {guard: {"mode": "off"} for guard in _GUARDS}
    guards |= {"personal_data": {"answers": "mask"} if on else {"outside": "allow"}}
    tables: dict[str, dict[str, Any]] = {
        "server": {"port": port},
        "state": {"directory": str(folder / "state")},
        "limits": {"requests_per_minute": 0},
        "guards": guards,
        "targets": {"local": {"kind": "vllm", "urls": [f"http://127.0.0.1:{upstream}/v1"], "model": "m"}},
        "models": {"m": {"targets": ["local"]}},
    }
    # TOML takes JSON's values; its tables are written out, one level deep.
    lines = []
    for table, entries in tables.items():
        for key, value in entries.items():
            if isinstance(value, dict):
                lines += [f"[{table}.{key}]", *(f"{name} = {json.dumps(entry)}" for name, entry in value.items())]
            else:
                lines.insert(0, f"{table}.{key} = {json.dumps(value)}")
    folder.mkdir()
    path = folder / "passerelle.toml"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


@contextlib.contextmanager
def _gateway(config: Path, core: int) -> Iterator[None]:
    command = [sys.executable, "-m", "gateway.cli", "gateway", "--config", str(config)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:  # noqa: S603
        os.sched_setaffinity(process.pid, {core})
        try:
            yield
        finally:
            process.terminate()
            process.wait()


def _token(folder: Path) -> str:
    keys = keys_from_folder(folder / "state" / "signing-keys")
    return Tokens(keys, "passerelle", "passerelle", 86_400).issue("bench", tenant="bench", scopes=frozenset({"chat"}))


async def _ready(session: aiohttp.ClientSession, url: str) -> None:
    for _ in range(1200):
        with contextlib.suppress(aiohttp.ClientError):
            async with session.get(f"{url}/livez") as answer:
                if answer.status == 200:
                    return
        await asyncio.sleep(0.1)  # there is no event for another process's start
    raise RuntimeError(f"no gateway at {url}")


def _asked(question: str) -> list[dict[str, str]]:
    return [{"role": "system", "content": _SYSTEM}, {"role": "user", "content": question}]


async def _rate(
    session: aiohttp.ClientSession, url: str, token: str, *, stream: bool, options: argparse.Namespace
) -> float:
    """Requests a second, every answer read to its end."""
    bodies = itertools.cycle(
        json.dumps({"model": "m", "messages": _asked(question), "stream": stream}).encode() for question in QUESTIONS
    )
    headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
    until, done = time.perf_counter() + options.seconds, 0

    async def caller() -> None:
        nonlocal done
        while time.perf_counter() < until:
            async with session.post(f"{url}/v1/chat/completions", data=next(bodies), headers=headers) as answer:
                text = await answer.read()
                if answer.status != 200 or b"chaque" not in text:
                    raise RuntimeError(f"{answer.status}: {text[:200]!r}")
            done += 1

    began = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(options.connections)))
    return done / (time.perf_counter() - began)


async def _first_text(session: aiohttp.ClientSession, url: str, token: str, pace: float) -> float:
    """Milliseconds until the first text of a streamed answer whose tokens come every `pace` milliseconds."""
    body = {"model": "m", "messages": _asked(QUESTIONS[0]), "stream": True, _PACE: pace}
    began = time.perf_counter()
    async with session.post(
        f"{url}/v1/chat/completions", json=body, headers={"authorization": f"Bearer {token}"}
    ) as answer:
        async for line in answer.content:
            if b'"content":"V' in line:
                first = time.perf_counter() - began
                await answer.read()
                return 1000 * first
    raise RuntimeError("an answer without text")


@contextlib.asynccontextmanager
async def _installed(folder: Path, core: int) -> AsyncIterator[dict[str, str]]:
    server = await asyncio.start_server(_serve, "127.0.0.1", 0)
    upstream = server.sockets[0].getsockname()[1]
    urls = {}
    with contextlib.ExitStack() as stack:
        for way in WAYS:
            with contextlib.closing(await asyncio.start_server(_serve, "127.0.0.1", 0)) as free:
                port = free.sockets[0].getsockname()[1]
            stack.enter_context(_gateway(_configuration(folder / way, port, upstream, on=way == "on"), core))
            urls[way] = f"http://127.0.0.1:{port}"
        yield urls
        server.close()


async def run(options: argparse.Namespace, folder: Path) -> dict[str, dict[str, list[float]]]:
    """The rates of each round: kind of answer, way, requests a second."""
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[-1]})
    found: dict[str, dict[str, list[float]]] = {kind: {way: [] for way in WAYS} for kind in ("plain", "streamed")}
    async with (
        _installed(folder, cores[0]) as urls,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session,
    ):
        for url in urls.values():
            await _ready(session, url)
        tokens = {way: _token(folder / way) for way in WAYS}
        for number in range(options.rounds + 1):
            for way in WAYS if number % 2 else WAYS[::-1]:
                for kind, rates in found.items():
                    rate = await _rate(session, urls[way], tokens[way], stream=kind == "streamed", options=options)
                    if number:  # the first round warms up
                        rates[way].append(rate)
                    sys.stderr.write(f"round {number}, {kind}, guards {way}: {rate:.0f} requests/s\n")
        found["first text"] = {
            way: [await _first_text(session, urls[way], tokens[way], options.pace) for _ in range(options.answers)]
            for way in WAYS
        }
    return found


def table(found: dict[str, dict[str, list[float]]], pace: float) -> str:
    """Medians over the rounds, and what the guards take."""
    lines = ["| answers of 16 tokens | guards off, requests/s | on | cost |", "|---|---:|---:|---:|"]
    first = {way: median(times) for way, times in found["first text"].items()}
    for kind, rates in found.items():
        if kind == "first text":
            continue
        off, on = (median(rates[way]) for way in WAYS)
        lines.append(f"| {kind} | {off:.0f} | {on:.0f} | {100 * (1 - on / off):.0f} % |")
    lines += [
        "",
        f"Time to first text at {pace:g} ms a token, whose tenth ends the first sentence: {first['off']:.0f} ms with the guards "
        f"off, {first['on']:.0f} ms with them on.",
    ]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.bench.guards",
        description=__doc__,
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=5, help="of each way (%(default)s)")
    parser.add_argument("--seconds", type=float, default=5, help="of a measurement (%(default)s)")
    parser.add_argument("--connections", type=int, default=16, help="at once (%(default)s)")
    parser.add_argument("--pace", type=float, default=40, help="milliseconds a token, for the first text (%(default)s)")
    parser.add_argument("--answers", type=int, default=20, help="whose first text is waited for (%(default)s)")
    parser.add_argument("--json", action="store_true", help="print every figure in place of the table")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        found = asyncio.run(run(options, Path(folder)))
    sys.stdout.write((json.dumps(found) if options.json else table(found, options.pace)) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
