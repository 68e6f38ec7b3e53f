import json
from pathlib import Path

import pytest

from serving.hardware import Gpu, Machine
from serving.plan import Options, Plan, PlanError, make_plan
from serving.prepare import choose_model
from serving.profiles import find_profile

GIB = 1 << 30
PYTHON = Path("/env/bin/python")
CPU = Machine(2, 24 * GIB, 22 * GIB)
H100 = Gpu("H100", 80 * GIB, 79 * GIB, (9, 0))
V100 = Gpu("V100", 16 * GIB, 15 * GIB, (7, 0))


def gpus(*cards: Gpu) -> Machine:
    return Machine(16, 128 * GIB, 120 * GIB, gpus=cards)


def plan(machine: Machine, model: str, options: Options | None = None) -> Plan:
    return make_plan(machine, find_profile(model), options or Options(), PYTHON, f"/models/{model}")


def value(made: Plan, name: str) -> str | None:
    return next((setting.value for setting in made.settings if setting.name == name), None)


@pytest.mark.parametrize(
    ("machine", "model", "device", "dtype", "parallel", "sequences"),
    [
        (CPU, "gemma-3-270m", "cpu", "bfloat16", None, "32"),
        (CPU, "falcon3-1b-instruct", "cpu", "bfloat16", None, "8"),
        (gpus(H100), "falcon-7b-instruct", "cuda", "bfloat16", "1", "256"),
        (gpus(H100, H100), "falcon-7b-instruct", "cuda", "bfloat16", "1", "256"),
        (gpus(H100, H100), "falcon-40b-instruct", "cuda", "bfloat16", "2", "256"),
        (gpus(V100, V100), "falcon3-7b-instruct", "cuda", "float16", "2", "64"),
    ],
)
def test_the_plan_follows_the_machine(
    machine: Machine, model: str, device: str, dtype: str, parallel: str | None, sequences: str
) -> None:
    made = plan(machine, model)
    assert made.device == device
    assert value(made, "--dtype") == dtype
    assert value(made, "--tensor-parallel-size") == parallel
    assert value(made, "--max-num-seqs") == sequences
    assert ("--enforce-eager" in made.argv) == (device == "cpu")
    assert ("VLLM_CPU_KVCACHE_SPACE" in made.environment) == (device == "cpu")


@pytest.mark.parametrize(
    ("machine", "model", "options", "sentence"),
    [
        (Machine(2, 4 * GIB, 3 * GIB), "gemma-3-270m", Options(), r"5\.0 GiB of memory are needed .*3\.0 GiB are free"),
        (CPU, "falcon-40b-instruct", Options(), r"choose a smaller --model"),
        (gpus(H100), "falcon-40b-instruct", Options(), r"weights need 76\.9 GiB .*use larger or more GPUs"),
        (gpus(V100, V100), "falcon-7b-instruct", Options(), r"71 heads can be split over 1 of them"),
        (CPU, "falcon-7b-instruct", Options(max_model_len=4096), r"--max-model-len 4096: .* allows 1 to 2048"),
        (CPU, "gemma-3-270m", Options(max_num_seqs=0), r"--max-num-seqs 0: must be 1 or more"),
    ],
)
def test_what_cannot_be_served_is_refused_in_a_sentence(
    machine: Machine, model: str, options: Options, sentence: str
) -> None:
    with pytest.raises(PlanError, match=sentence):
        plan(machine, model, options)


def test_every_setting_has_a_reason_and_every_secret_stays_out() -> None:
    made = plan(CPU, "gemma-3-270m")
    assert all(setting.reason for setting in made.settings)
    assert "--api-key" not in made.argv
    assert made.environment["VLLM_NO_USAGE_STATS"] == "1"
    assert made.environment["HF_HUB_OFFLINE"] == "1"
    assert "HF_HUB_OFFLINE" not in plan(CPU, "falcon3-1b-instruct").environment


def test_the_users_wishes_reach_the_command() -> None:
    options = Options(port=9000, served_name="mine", max_model_len=512, max_num_seqs=2, load_format="dummy")
    made = plan(CPU, "gemma-3-270m", options)
    words = list(zip(made.argv, made.argv[1:], strict=False))
    for pair in [("--port", "9000"), ("--served-model-name", "mine"), ("--max-model-len", "512")]:
        assert pair in words
    assert {("--max-num-seqs", "2"), ("--load-format", "dummy")} <= set(words)
    assert made.base_url == "http://127.0.0.1:9000/v1"
    assert made.argv[:3] == (str(PYTHON), "-m", "vllm.entrypoints.openai.api_server")


def test_cpu_forbids_the_gpus() -> None:
    assert plan(gpus(H100), "gemma-3-270m", Options(cpu=True)).device == "cpu"


def test_the_plan_can_be_written_as_json() -> None:
    made = json.loads(json.dumps(plan(CPU, "gemma-3-270m").as_dict()))
    assert made["defaults"]["stop"]
    assert made["base_url"].endswith("/v1")


@pytest.mark.parametrize(
    ("machine", "options", "model"),
    [
        (CPU, Options(), "gemma-3-270m"),
        (gpus(H100), Options(), "falcon-7b-instruct"),
        (gpus(H100), Options(cpu=True), "gemma-3-270m"),
        (gpus(V100), Options(), "gemma-3-270m"),
        (gpus(H100), Options(model="falcon3-7b-instruct"), "falcon3-7b-instruct"),
    ],
)
def test_without_a_wish_the_machine_decides_the_model(machine: Machine, options: Options, model: str) -> None:
    assert choose_model(options, machine) == model
