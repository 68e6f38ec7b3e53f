"""What cannot be served is refused in one sentence, with the nearest thing that fits."""

import pytest

from serving.hardware import Gpu, Machine
from serving.plan import Options, PlanError
from tests.serving.test_plan import A4500, CPU, GIB, H100, T4, V100, gpus, plan


@pytest.mark.parametrize(
    ("machine", "model", "options", "sentence"),
    [
        (
            Machine(2, 4 * GIB, 3 * GIB),
            "gemma-3-270m",
            Options(),
            r"5\.0 GiB of memory are needed .*3\.0 GiB are free: close other programs; no profile fits",
        ),
        (
            CPU,
            "falcon-40b-instruct",
            Options(),
            r"81\.4 GiB of memory are needed .*: --model falcon-h1-7b-instruct fits",
        ),
        (
            Machine(2, 24 * GIB, 8 * GIB),
            "falcon3-1b-instruct",
            Options(max_model_len=8192),
            r"9\.6 GiB of memory are needed .*: --max-model-len 3584 fits or --model gemma-3-270m fits",
        ),
        (
            gpus(H100),
            "falcon-40b-instruct",
            Options(quantization="none"),
            r"does not fit 1 × NVIDIA H100.*: even with 16 bits its weights need 76\.9 GiB a GPU, where 7\d\.\d GiB are left "
            r"for them and 4 conversations of 2048 tokens; nearest that fits: here without --quantization \(fp8\)$",
        ),
        (
            gpus(T4),
            "falcon-40b-instruct",
            Options(),
            r"even with bitsandbytes its weights need 20\.\d GiB a GPU.*nearest that fits: 2 × Tesla T4 \(bitsandbytes, tensor "
            r"parallel 2\); one A100 40GB \(bitsandbytes\); --model falcon3-10b-instruct here",
        ),
        (
            gpus(A4500),
            "falcon3-7b-instruct",
            Options(quantization="none"),
            r"nearest that fits: --max-model-len \d+ here \(16 bits\); here without --quantization \(fp8\)",
        ),
        (
            gpus(H100, H100),
            "falcon-7b-instruct",
            Options(tensor_parallel_size=2),
            r"--tensor-parallel-size 2 .*is no cut of falcon-7b-instruct \(71 heads, 1 for keys and values, 32 layers\) over 2",
        ),
        (
            gpus(H100),
            "falcon-7b-instruct",
            Options(quantization="awq"),
            r"--quantization awq: .* has no such checkpoint",
        ),
        (
            gpus(A4500),
            "falcon3-7b-instruct",
            Options(gpu_memory_utilization=0.2),
            r"nearest that fits: here without --gpu-memory-utilization \(fp8\)$",
        ),
        (
            gpus(A4500),
            "falcon-40b-instruct",
            Options(gpu_memory_utilization=0.3),
            r"nearest that fits: 6 × .* \(bitsandbytes, .*\); one H100 \(bitsandbytes\); --model falcon-7b-instruct here$",
        ),
        (
            gpus(A4500),
            "falcon3-10b-instruct",
            Options(adapters=tuple((f"a{number}", "x/y") for number in range(200))),
            r"nearest that fits: .*--model falcon3-3b-instruct here$",
        ),
        (gpus(V100), "gemma-3-270m", Options(), r"capability 7\.0, and .* 7\.5 and newer; nearest that fits: one T4"),
        (
            gpus(H100),
            "someone/unknown",
            Options(quantization="awq"),
            r"--quantization awq: .*name the one in AWQ as --model",
        ),
        (
            gpus(V100),
            "someone/unknown",
            Options(),
            r"capability 7\.0, and .* 7\.5 and newer: use a newer card, or --cpu",
        ),
        (gpus(Gpu("L4", 23034 << 20, 200 << 20, (8, 9))), "gemma-3-270m", Options(), r"0\.2 GiB of 22\.5 GiB are free"),
        (
            gpus(H100),
            "gemma-3-270m",
            Options(gpu_memory_utilization=1.0),
            r"--gpu-memory-utilization 1\.00 is not there",
        ),
        (
            gpus(H100),
            "gemma-3-270m",
            Options(gpu_memory_utilization=1.5),
            r"--gpu-memory-utilization 1\.5: must be more",
        ),
        (
            gpus(H100),
            "gemma-3-270m",
            Options(max_num_batched_tokens=8),
            r"--max-num-batched-tokens 8: must be at least .*256",
        ),
        (
            gpus(H100),
            "gemma-3-270m",
            Options(pipeline_parallel_size=0),
            r"--pipeline-parallel-size 0: must be 1 or more",
        ),
        (gpus(H100), "gemma-3-270m", Options(quantization="int2"), r"--quantization int2: allowed are none, fp8, awq"),
        (CPU, "gemma-3-270m", Options(quantization="fp8"), r"--quantization fp8: only for GPUs"),
        (CPU, "gemma-3-270m", Options(nodes=2), r"--nodes 2: only for GPUs"),
        (CPU, "gemma-3-270m", Options(tensor_parallel_size=2), r"--tensor-parallel-size 2: only for GPUs"),
        (CPU, "falcon-7b-instruct", Options(max_model_len=4096), r"--max-model-len 4096: .* allows 1 to 2048"),
        (CPU, "gemma-3-270m", Options(max_num_seqs=0), r"--max-num-seqs 0: must be 1 or more"),
    ],
)
def test_what_cannot_be_served_is_refused_in_a_sentence(
    machine: Machine, model: str, options: Options, sentence: str
) -> None:
    with pytest.raises(PlanError, match=sentence):
        plan(machine, model, options)
