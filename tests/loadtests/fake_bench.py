"""A stand-in for `vllm bench serve`: takes its options, asks the server each prompt, writes the JSON that it would write.

    python fake_bench.py --base-url http://127.0.0.1:8000 --model m …

With FAKE_BENCH_FAILS in the environment it ends with exit code 3 and a word on why.
"""

import argparse
import json
import os
import sys
import time
import urllib.request
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("base-url", "endpoint", "model", "result-dir", "result-filename"):
        parser.add_argument(f"--{name}", required=True)
    for name in ("num-prompts", "seed", "max-concurrency"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--dataset-path", type=Path)
    parser.add_argument("--random-output-len", type=int)
    options, rest = parser.parse_known_args()
    if os.environ.get("FAKE_BENCH_FAILS"):
        sys.exit("the tokenizer is not there")
    if "--ignore-eos" not in rest or "--save-result" not in rest:
        sys.exit(f"what was asked for: {rest}")
    began, answered = time.perf_counter(), 0
    lines = [json.loads(line) for line in options.dataset_path.read_text().splitlines()] if options.dataset_path else []
    for number in range(options.num_prompts):
        answered += asked(options, lines[number]["prompt"] if lines else f"Question {options.seed}-{number}")
    figures = {f"{which}_{metric}_ms": 2.0 for which in ("mean", "p50", "p99") for metric in ("ttft", "itl", "e2el")}
    tokens = answered * (options.random_output_len or sum(line["output_tokens"] for line in lines) / len(lines))
    duration = time.perf_counter() - began
    found = {"completed": answered, "output_throughput": tokens / duration, "total_output_tokens": tokens}
    Path(options.result_dir, options.result_filename).write_text(json.dumps(figures | found | {"duration": duration}))


def asked(options: argparse.Namespace, text: str) -> bool:
    """Whether a streamed answer comes to its end."""
    messages = [{"role": "user", "content": text}]
    body = {"model": options.model, "messages": messages, "stream": True, "max_completion_tokens": 16}
    request = urllib.request.Request(  # noqa: S310  # a loopback address
        options.base_url + options.endpoint,
        json.dumps(body).encode(),
        {"content-type": "application/json", "authorization": f"Bearer {os.environ['OPENAI_API_KEY']}"},
    )
    try:
        with urllib.request.urlopen(request) as answer:  # noqa: S310  # the same
            return b"[DONE]" in answer.read()
    except OSError:
        return False


if __name__ == "__main__":
    main()
