import json
from pathlib import Path

import pytest

from serving.gpu import Cards, ways
from serving.hardware import Gpu, Machine
from serving.plan import Options, Plan, PlanError, make_plan
from serving.prepare import choose_model
from serving.profiles import find_profile
from tests.serving.test_model import FALCON3_7B

GIB = 1 << 30
PYTHON = Path("/env/bin/python")
CPU = Machine(2, 24 * GIB, 22 * GIB)
H100 = Gpu("NVIDIA H100 80GB HBM3", 81559 << 20, 81079 << 20, (9, 0))
A4500 = Gpu("NVIDIA RTX A4500", 20470 << 20, 19990 << 20, (8, 6))
T4 = Gpu("Tesla T4", 15360 << 20, 14880 << 20, (7, 5))
V100 = Gpu("Tesla V100-SXM2-16GB", 16384 << 20, 15904 << 20, (7, 0))


def gpus(*cards: Gpu) -> Machine:
    return Machine(16, 128 * GIB, 120 * GIB, gpus=cards)


def plan(machine: Machine, model: str, options: Options | None = None) -> Plan:
    return make_plan(machine, find_profile(model), options or Options(), PYTHON, f"/models/{model}")


def value(made: Plan, name: str) -> str | None:
    return next((setting.value for setting in made.settings if setting.name == name), None)


def reason(made: Plan, name: str) -> str:
    return next(setting.reason for setting in made.settings if setting.name == name)


@pytest.mark.parametrize(
    ("machine", "model", "device", "dtype", "parallel", "sequences"),
    [
        (CPU, "gemma-3-270m", "cpu", "bfloat16", None, "32"),
        (CPU, "falcon3-1b-instruct", "cpu", "bfloat16", None, "8"),
        (gpus(H100), "falcon-7b-instruct", "cuda", "bfloat16", "1", "256"),
        (gpus(H100, H100), "falcon-7b-instruct", "cuda", "bfloat16", "1", "256"),
        (gpus(H100, H100), "falcon-40b-instruct", "cuda", "bfloat16", "2", "256"),
        (gpus(T4, T4), "falcon3-7b-instruct", "cuda", "float16", "2", "64"),
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


def test_the_users_wishes_reach_the_command_of_gpus_too() -> None:
    options = Options(
        quantization="fp8",
        gpu_memory_utilization=0.5,
        max_num_batched_tokens=1024,
        tensor_parallel_size=2,
        pipeline_parallel_size=1,
        max_num_seqs=24,
    )
    made = plan(gpus(H100, H100), "falcon3-7b-instruct", options)
    words = set(zip(made.argv, made.argv[1:], strict=False))
    assert words >= {
        ("--quantization", "fp8_per_tensor"),
        ("--gpu-memory-utilization", "0.50"),
        ("--max-num-batched-tokens", "1024"),
        ("--tensor-parallel-size", "2"),
        ("--pipeline-parallel-size", "1"),
        ("--max-num-seqs", "24"),
    }
    assert made.sequences == 24
    assert plan(CPU, "gemma-3-270m", Options(quantization="none", tensor_parallel_size=1)).device == "cpu"


def test_an_awq_checkpoint_takes_the_models_place() -> None:
    made = plan(gpus(T4), "falcon3-10b-instruct")
    assert made.argv[made.argv.index("--model") + 1] == made.model == "tiiuae/Falcon3-10B-Instruct-AWQ"
    assert made.served_name == "falcon3-10b-instruct"
    assert "--quantization" not in made.argv  # its own config says it
    assert value(made, "--quantization") == "awq"
    assert "16 bits do not fit; 4 bits" in reason(made, "--quantization")


def test_that_nothing_is_quantised_is_a_line_of_the_plan_as_well() -> None:
    made = plan(gpus(H100), "falcon3-7b-instruct")
    assert (value(made, "--quantization"), "--quantization" in made.argv) == ("none", False)
    assert reason(made, "--quantization") == "16 bits fit: nothing is lost"
    assert (
        reason(plan(gpus(H100), "falcon3-7b-instruct", Options(quantization="none")), "--quantization") == "asked for"
    )


def test_the_cache_is_kept_in_8_bits_where_that_saves_the_context() -> None:
    l4 = gpus(Gpu("NVIDIA L4", 23034 << 20, 22554 << 20, (8, 9)))
    long = plan(l4, "falcon3-7b-instruct", Options(max_model_len=32768))
    assert (value(long, "--quantization"), value(long, "--kv-cache-dtype")) == ("fp8_per_tensor", "fp8")
    assert value(plan(l4, "falcon3-7b-instruct"), "--kv-cache-dtype") is None
    with pytest.raises(PlanError, match="nearest that fits"):  # the A4500 has no FP8 to compute it with
        plan(gpus(A4500), "falcon3-7b-instruct", Options(max_model_len=32768, quantization="fp8"))


def test_a_cache_in_8_bits_is_only_for_classes_that_have_it() -> None:
    l4 = Cards(Gpu("L4", 23034 << 20, 22554 << 20, (8, 9)), 1, 1, 0.93, None)
    for model, types in [
        ("falcon3-7b-instruct", ["bfloat16", "fp8"]),
        ("falcon-7b-instruct", ["bfloat16"]),
        ("falcon-h1-7b-instruct", ["bfloat16"]),
    ]:
        profile = find_profile(model)
        assert profile.known is not None
        assert [cache for _, cache in ways(l4, profile, profile.known, Options(quantization="fp8"))] == types


def test_a_checkpoint_that_is_quantised_already_is_not_quantised_again(tmp_path: Path) -> None:
    config = {**FALCON3_7B, "quantization_config": {"quant_method": "awq"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors.index.json").write_text('{"metadata": {"total_size": 5000000000}}')
    made = plan(gpus(T4), str(tmp_path))
    assert made.memory["weights"] == 5_000_000_000
    assert "--quantization" not in made.argv
    assert reason(made, "--quantization") == "the checkpoint is quantised already"
    with pytest.raises(PlanError, match=r"--quantization fp8: .* is quantised already"):
        plan(gpus(T4), str(tmp_path), Options(quantization="fp8"))


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        ({"avx2", "avx512f", "avx512_bf16", "amx_bf16"}, "AMX"),
        ({"avx2", "avx512f"}, "AVX-512 widens"),
        ({"bf16"}, "ARM"),
    ],
)
def test_the_instructions_of_a_cpu_are_told(flags: set[str], reason: str) -> None:
    made = plan(Machine(8, 24 * GIB, 22 * GIB, frozenset(flags)), "gemma-3-270m")
    assert reason in next(setting.reason for setting in made.settings if setting.name == "--dtype")
    assert made.machine.startswith("8 CPU cores")
    assert made.expected.kv_tokens == GIB // (18 * 256 * 2 * 2)


def test_other_programs_and_desktops_are_left_their_memory() -> None:
    idle = plan(gpus(A4500), "gemma-3-270m")
    busy = plan(gpus(Gpu(A4500.name, A4500.memory, 10 * GIB, (8, 6))), "gemma-3-270m")
    assert value(idle, "--gpu-memory-utilization") == "0.88"
    assert value(busy, "--gpu-memory-utilization") == "0.48"  # 9.5 of 19.5 GiB
    unknown = plan(gpus(Gpu("NVIDIA GB10", 20470 << 20, 19990 << 20, (12, 1))), "gemma-3-270m")
    assert value(unknown, "--gpu-memory-utilization") == "0.88"
    assert unknown.expected.throughput == {}


def test_a_model_of_unknown_size_is_served_with_what_is_asked_for() -> None:
    made = plan(gpus(H100, H100), "someone/unknown", Options(tensor_parallel_size=2, quantization="fp8"))
    words = set(zip(made.argv, made.argv[1:], strict=False))
    assert words >= {("--tensor-parallel-size", "2"), ("--quantization", "fp8_per_tensor"), ("--max-num-seqs", "64")}
    assert made.memory == {}


def test_adapters_take_their_room(tmp_path: Path) -> None:
    folder = tmp_path / "notaire"
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"r": 16}))
    made = plan(
        gpus(H100), "falcon3-7b-instruct", Options(adapters=(("notaire", str(folder)), ("avocat", str(folder))))
    )
    # 28 layers, both sides of seven matrices: q and o 3072 + 3072, k and v 3072 + 1024, three of 3072 + 23040
    assert made.memory["adapters"] == 2 * 16 * 28 * (2 * 6144 + 2 * 4096 + 3 * 26112) * 2


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
        (gpus(A4500), Options(), "falcon-7b-instruct"),
        (gpus(T4), Options(), "gemma-3-270m"),
        (gpus(T4, T4), Options(), "falcon-7b-instruct"),
        (gpus(V100), Options(), "gemma-3-270m"),
        (gpus(H100), Options(model="falcon3-7b-instruct"), "falcon3-7b-instruct"),
    ],
)
def test_without_a_wish_the_machine_decides_the_model(machine: Machine, options: Options, model: str) -> None:
    assert choose_model(options, machine) == model


def test_a_step_has_a_token_for_every_request_that_was_asked_for() -> None:
    made = plan(gpus(A4500), "falcon3-3b-instruct", Options(max_num_seqs=4096))
    assert (value(made, "--max-num-seqs"), value(made, "--max-num-batched-tokens")) == ("4096", "4096")


def test_the_reason_for_the_requests_at_once_is_the_one_that_decided() -> None:
    l4 = gpus(Gpu("NVIDIA L4", 23034 << 20, 22554 << 20, (8, 9)))
    adapters = Options(adapters=(("a", "x/y"), ("b", "x/y"), ("c", "x/y"), ("d", "x/y")))
    assert "what the cache holds" in reason(plan(l4, "falcon3-7b-instruct", adapters), "--max-num-seqs")
    assert "slower than one reads" in reason(plan(l4, "falcon-7b-instruct"), "--max-num-seqs")
