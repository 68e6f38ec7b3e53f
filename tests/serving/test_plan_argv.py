"""What the plan says is what vLLM's own parser understands: the CPU build's, which knows the same options as the GPUs'."""

import json
import subprocess
from pathlib import Path

import pytest

from serving.cards import parse_cards
from serving.hardware import Gpu, Machine
from serving.plan import Options, make_plan
from serving.profiles import find_profile

pytest_plugins = ["tests.vllm_server"]

PARSE = """
import json, sys
from vllm.entrypoints.launchers.cli_args import make_arg_parser
from vllm.utils.argparse_utils import FlexibleArgumentParser
parser = make_arg_parser(FlexibleArgumentParser())
names = ("max_num_seqs", "max_num_batched_tokens", "gpu_memory_utilization", "tensor_parallel_size",
         "pipeline_parallel_size", "distributed_executor_backend", "quantization", "kv_cache_dtype", "max_lora_rank")
print("[" + ",".join(json.dumps({**{name: getattr(found, name) for name in names},
      "loras": [lora.name for lora in found.lora_modules or []]})
      for found in (parser.parse_args(words) for words in json.loads(sys.argv[1]))) + "]")
"""


def argv(gpus: str, model: str, options: Options) -> list[str]:
    number, card = parse_cards(gpus)
    gpu = Gpu(card.name, card.memory, card.memory - (480 << 20), card.capability)
    made = make_plan(Machine(0, 0, 0, gpus=(gpu,) * number), find_profile(model), options, Path("python"), model)
    return list(made.argv[3:])


@pytest.mark.vllm
@pytest.mark.timeout(400)
def test_vllm_understands_the_plan(vllm_python: Path, tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text('{"r": 24}')
    words = [
        argv("H100", "falcon-7b-instruct", Options()),
        argv("1xH100", "falcon-40b-instruct", Options(quantization="none", nodes=2)),
        argv("L4", "falcon3-7b-instruct", Options(max_model_len=32768)),
        argv("L4", "falcon3-7b-instruct", Options(adapters=(("notaire", str(tmp_path)), ("mairie", "a/b")))),
    ]
    told = subprocess.run(
        [vllm_python, "-c", PARSE, json.dumps(words)],
        capture_output=True,
        text=True,
        check=True,
        env={"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
    )
    alone, nodes, eight, tuned = json.loads(told.stdout.splitlines()[-1])
    assert (alone["max_num_seqs"], alone["max_num_batched_tokens"], alone["gpu_memory_utilization"]) == (
        256,
        8192,
        0.95,
    )
    assert (nodes["tensor_parallel_size"], nodes["pipeline_parallel_size"]) == (1, 2)
    assert nodes["distributed_executor_backend"] == "ray"
    assert (eight["quantization"], eight["kv_cache_dtype"]) == ("fp8_per_tensor", "fp8")
    assert (tuned["loras"], tuned["max_lora_rank"]) == (["notaire", "mairie"], 32)
