"""A model cut over several GPUs and several machines."""

from pathlib import Path

import pytest

from serving.cards import find_card
from serving.gpu import splits
from serving.hardware import Gpu, Machine
from serving.memory import Layout
from serving.plan import Options, Plan, PlanError, make_plan
from serving.profiles import find_profile
from serving.quantisation import NONE
from serving.throughput import Work, step_seconds, tokens_per_second

WHOLE = Options(quantization="none")


def plan(card: str, number: int, model: str, options: Options = WHOLE) -> Plan:
    found = find_card(card)
    gpu = Gpu(card, found.memory, found.memory - (480 << 20), found.capability)
    return make_plan(Machine(0, 0, 0, gpus=(gpu,) * number), find_profile(model), options, Path("python"), model)


def cut(made: Plan) -> tuple[str | None, str | None, str | None]:
    names = ("--tensor-parallel-size", "--pipeline-parallel-size", "--distributed-executor-backend")
    found = {setting.name: setting.value for setting in made.settings}
    return found.get(names[0]), found.get(names[1]), found.get(names[2])


@pytest.mark.parametrize(
    ("card", "number", "nodes", "model", "expected"),
    [
        ("H100", 1, 1, "falcon-7b-instruct", ("1", None, None)),
        ("H100", 8, 1, "falcon-7b-instruct", ("1", None, None)),  # the fewest; the others are free for replicas
        ("T4", 2, 1, "falcon-7b-instruct", ("1", "2", None)),  # 71 heads cannot be halved: the layers are
        ("T4", 2, 1, "falcon3-7b-instruct", ("2", None, None)),
        ("H100", 2, 1, "falcon-40b-instruct", ("2", None, None)),
        (
            "L4",
            8,
            1,
            "falcon-40b-instruct",
            ("8", None, None),
        ),  # five would hold it, and 128 heads are no multiple of five
        ("L4", 6, 1, "falcon-40b-instruct", ("1", "5", None)),
        ("H100", 1, 2, "falcon-40b-instruct", ("1", "2", "ray")),
        ("A100 40GB", 2, 2, "falcon-40b-instruct", ("2", "2", "ray")),
        ("H100", 2, 2, "falcon-40b-instruct", ("2", None, None)),  # one node holds it
    ],
)
def test_the_fewest_gpus_hold_it(
    card: str, number: int, nodes: int, model: str, expected: tuple[str | None, str | None, str | None]
) -> None:
    assert cut(plan(card, number, model, Options(quantization="none", nodes=nodes))) == expected


@pytest.mark.parametrize(("tensor", "pipeline"), [(2, 1), (4, 1), (1, 4), (2, 2)])
def test_a_cut_that_was_asked_for_is_kept(tensor: int, pipeline: int) -> None:
    options = Options(tensor_parallel_size=tensor, pipeline_parallel_size=pipeline)
    assert cut(plan("L4", 4, "falcon3-7b-instruct", options))[:2] == (str(tensor), str(pipeline))


@pytest.mark.parametrize(
    ("model", "allowed"),
    [
        ("falcon-7b-instruct", {1}),  # 71 heads
        (
            "falcon3-7b-instruct",
            {1, 2, 4, 12},
        ),  # 12 heads; 3 and 6 neither divide four key/value heads nor are their multiple
        ("falcon-40b-instruct", {1, 2, 4, 8, 16}),  # 128 heads, eight for keys and values
        ("falcon-h1-7b-instruct", {1, 2, 4, 6, 12}),  # 12 heads, two for keys and values, 24 of the state
    ],
)
def test_a_layer_is_cut_where_vllm_can_cut_it(model: str, allowed: set[int]) -> None:
    known = find_profile(model).known
    assert known is not None
    assert {tensor for tensor in range(1, 17) if splits(known, tensor)} == allowed


def test_there_are_no_more_stages_than_layers() -> None:
    with pytest.raises(PlanError, match="is no cut of smollm2-135m-instruct"):
        plan("L4", 1, "smollm2-135m-instruct", Options(nodes=31, pipeline_parallel_size=31))


def test_each_gpu_holds_its_part() -> None:
    two = plan("H100", 2, "falcon-40b-instruct")
    # the matrices and the embedding in halves; norms, 121 of twice 8192, on both
    assert two.memory["weights"] == (60 * 679_477_248 + 65024 * 8192) * 2 // 2 + 121 * 2 * 8192 * 2
    assert two.memory["outside torch"] == (360 << 20) + (1 << 30)
    stages = plan("T4", 2, "falcon-7b-instruct")
    # sixteen of 32 layers and the embedding, which is the head too; half of the norms
    assert stages.memory["weights"] == 16 * 207_060_992 * 2 + 65024 * 4544 * 2 + 33 * 2 * 4544
    # embedding and head are two, and lie on different stages
    apart = plan("L4", 2, "falcon3-10b-instruct", Options(pipeline_parallel_size=2))
    assert apart.memory["weights"] == 20 * 237_502_464 * 2 + 131072 * 3072 * 2 + 81 * 3072
    # four key/value heads over four GPUs: each holds one, and a quarter of a token's 114,688 bytes
    four = plan("L4", 4, "falcon3-7b-instruct", Options(tensor_parallel_size=4))
    assert four.expected.kv_tokens == four.memory["key/value cache"] // (28_672 * 16) * 16


def test_more_gpus_are_faster_and_a_pipeline_only_for_many() -> None:
    known = find_profile("falcon3-7b-instruct").known
    assert known is not None
    card = find_card("L4")
    one, tensor, pipeline = (Work(known, NONE, layout) for layout in (Layout(), Layout(2, 1), Layout(1, 2)))
    assert 1.5 < tokens_per_second(card, tensor, 1) / tokens_per_second(card, one, 1) < 2
    assert step_seconds(card, pipeline, 1) == step_seconds(card, one, 1)
    assert tokens_per_second(card, pipeline, 256) > 1.3 * tokens_per_second(card, one, 256)
