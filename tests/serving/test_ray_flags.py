"""What is planned for several machines, read by vLLM's own parser: all that can be tried without them."""

import subprocess
from pathlib import Path

import pytest

from serving.plan import Options
from serving.prepare import make


@pytest.mark.vllm
def test_vllm_knows_every_flag_of_a_plan_for_several_machines(vllm_python: Path) -> None:
    plan = make(Options(model="falcon-40b-instruct", gpus="2xRTX A4500", nodes=2))
    assert "ray" in plan.argv
    # One flag it cannot know: the parser names all that it does not know, and ends before anything is started.
    words = [str(vllm_python), *plan.argv[1:], "--no-such-flag"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 2, done.stderr[-1000:]
    assert done.stderr.strip().endswith("unrecognized arguments: --no-such-flag")
