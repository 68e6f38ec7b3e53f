"""What it takes to reckon a prompt, by its length, with a tokenizer.json or without one."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from pathlib import Path
from statistics import median

import orjson

from gateway.protocol import ChatRequest, parse
from gateway.reckoning import Reckoner
from gateway.settings import Settings
from gateway.target import Target

_SENTENCE = "Comment puis-je suivre l'avis que j'ai déposé la semaine dernière sur votre plateforme ? Merci d'avance."
_LENGTHS = (100, 1_000, 16_000, 256_000)


def prompt(characters: int, end: str) -> ChatRequest:
    """One message of so many characters, its sentences ended by `end`."""
    sentence = _SENTENCE + end
    text = (sentence * (characters // len(sentence) + 1))[:characters]
    return parse(orjson.dumps({"model": "m", "messages": [{"role": "user", "content": text}]}), max_choices=1)


async def microseconds(reckoner: Reckoner, target: Target, asked: ChatRequest, calls: int) -> float:
    """The median of so many calls."""
    took = []
    for _ in range(calls):
        began = time.perf_counter()
        await reckoner.prompt_tokens(target, asked)
        took.append(time.perf_counter() - began)
    return median(took) * 1e6


def main(words: list[str] | None = None) -> None:
    """Print the medians, in microseconds."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.bench.reckoning", description=__doc__)
    parser.add_argument("--tokenizer", type=Path, metavar="FILE", help="a tokenizer.json (default: bytes are counted)")
    parser.add_argument("--calls", type=int, default=200, help="how often each prompt is reckoned (default: 200)")
    options = parser.parse_args(words)
    target = Target.model_validate(
        {"kind": "vllm", "urls": ["http://h/v1"], "model": "m", "tokenizer": options.tokenizer}
    )
    began = time.perf_counter()
    reckoner = Reckoner(Settings(targets={"a": target}))
    sys.stdout.write(f"read in {time.perf_counter() - began:.2f} s\ncharacters   one line µs   many lines µs\n")
    for length in _LENGTHS:
        calls = max(1, min(options.calls, 2_000_000 // length))
        one, many = (asyncio.run(microseconds(reckoner, target, prompt(length, end), calls)) for end in (" ", "\n"))
        sys.stdout.write(f"{length:10}   {one:11.0f}   {many:13.0f}\n")


if __name__ == "__main__":
    main()
