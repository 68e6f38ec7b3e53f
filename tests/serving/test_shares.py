"""One machine, several replicas: what each gets, and what is refused."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from serving.hardware import Gpu, Machine
from serving.plan import Options, Plan, PlanError
from serving.shares import physical_cores, prepare_replicas

GIB = 1 << 30
H100 = Gpu("H100", 80 * GIB, 79 * GIB, (9, 0))
T4 = Gpu("T4", 16 * GIB, 15 * GIB, (7, 5))
CPU = Machine(8, 48 * GIB, 44 * GIB)
FALCON3 = Options(model="falcon3-1b-instruct", vllm_python=Path(sys.executable))
FALCON40 = replace(FALCON3, model="falcon-40b-instruct", quantization="none")


def gpus(*cards: Gpu) -> Machine:
    return Machine(16, 128 * GIB, 120 * GIB, gpus=cards)


def plans(machine: Machine, number: int, options: Options = FALCON3, **more: Any) -> tuple[Plan, ...]:
    return prepare_replicas(options, range(9001, 9001 + number), print, machine=machine, cores=range(8), **more)


def visible(*made: Plan) -> list[str]:
    return [plan.environment["CUDA_VISIBLE_DEVICES"] for plan in made]


def bound(*made: Plan) -> list[str]:
    return [plan.environment["VLLM_CPU_OMP_THREADS_BIND"] for plan in made]


@pytest.mark.parametrize("machine", [CPU, gpus(H100, H100)])
def test_a_single_one_has_the_whole_machine_and_no_variable_more(machine: Machine) -> None:
    (only,) = plans(machine, 1)
    assert not {"CUDA_VISIBLE_DEVICES", "VLLM_CPU_OMP_THREADS_BIND"} & only.environment.keys()
    assert only.port == 9001


def test_each_has_a_gpu_and_a_port_of_its_own_and_is_else_like_the_others() -> None:
    made = plans(gpus(H100, H100, H100), 3)
    assert visible(*made) == ["0", "1", "2"]
    assert {plan.environment["CUDA_DEVICE_ORDER"] for plan in made} == {"PCI_BUS_ID"}
    assert [plan.port for plan in made] == [9001, 9002, 9003]
    assert len({tuple(word for word in plan.argv if word != str(plan.port)) for plan in made}) == 1


def test_a_replica_over_several_gpus_has_them_in_a_group() -> None:
    assert visible(*plans(gpus(*[H100] * 4), 2, FALCON40)) == ["0,1", "2,3"]
    assert visible(*plans(gpus(*[H100] * 4), 2)) == ["0", "2"]  # what fits on one takes no second one


def test_the_gpus_of_the_environment_are_divided_by_the_names_they_have_there() -> None:
    made = plans(gpus(H100, H100), 2, visible="3, 1")
    assert visible(*made) == ["3", "1"]
    assert "CUDA_DEVICE_ORDER" not in made[0].environment
    assert visible(*plans(gpus(*[H100] * 4), 2, visible="GPU-7a,GPU-01")) == ["GPU-7a", "GPU-01"]
    assert visible(*plans(gpus(H100, H100), 2, visible="0,1,9")) == ["0", "1"]  # of the last one CUDA knows nothing


def test_unlike_gpus_are_planned_for_as_the_smallest() -> None:
    alike = [plan.argv for plan in plans(gpus(T4, T4), 2)]
    assert [plan.argv for plan in plans(gpus(H100, T4), 2)] == alike
    slow = replace(H100, capability=(7, 5))
    assert "float16" in plans(gpus(H100, slow, T4), 3)[0].argv


def test_on_the_cpu_each_has_cores_of_its_own_one_of_which_it_leaves_to_its_other_processes() -> None:
    assert bound(*plans(CPU, 2)) == ["0,1,2", "4,5,6"]
    assert bound(*plans(CPU, 3)) == ["0", "2", "4"]
    assert bound(*prepare_replicas(FALCON3, (1, 2), print, machine=CPU, cores=(4, 6))) == ["4", "6"]


@pytest.mark.parametrize(
    ("machine", "number", "options", "sentence"),
    [
        (gpus(H100, H100), 3, FALCON3, r"^--replicas 3: this machine has 2 GPU\(s\), and each replica needs its own$"),
        (gpus(H100, H100), 2, FALCON40, r"^--replicas 2 leaves 1 GPU\(s\) to each: .*"),
        (CPU, 9, FALCON3, r"^--replicas 9: this machine has 8 cores, and each replica needs its own$"),
        (CPU, 8, FALCON3, r"^--replicas 8 leaves 5\.5 GiB of memory to each: .* GiB are free"),
        (CPU, 0, FALCON3, r"^--replicas: must be 1 or more$"),
        (CPU, 2, replace(FALCON3, nodes=2), r"^--replicas 2 and --nodes 2: replicas share one machine; .*"),
    ],
)
def test_too_small_a_machine_is_refused_in_one_sentence(
    machine: Machine, number: int, options: Options, sentence: str
) -> None:
    with pytest.raises(PlanError, match=sentence) as refused:
        plans(machine, number, options)
    assert "\n" not in str(refused.value)


def test_a_gpu_machine_told_to_leave_its_gpus_alone_divides_its_cores() -> None:
    assert bound(*plans(gpus(H100), 2, replace(FALCON3, cpu=True))) == ["0,1,2", "4,5,6"]


def test_two_threads_of_a_core_are_one_core_and_sockets_stay_together(tmp_path: Path) -> None:
    for cpu, socket, siblings in [(0, 0, "0,4"), (1, 1, "1,5"), (2, 0, "2,6"), (3, 1, "3,7"), (4, 0, "0,4")]:
        folder = tmp_path / f"cpu{cpu}" / "topology"
        folder.mkdir(parents=True)
        (folder / "physical_package_id").write_text(f"{socket}\n")
        (folder / "thread_siblings_list").write_text(f"{siblings}\n")
    assert physical_cores([0, 1, 2, 3, 4], tmp_path) == [0, 2, 1, 3]
    assert physical_cores([1, 4], tmp_path) == [1, 4]
    assert physical_cores([0, 4, 9], tmp_path) == [0, 4, 9]  # of 9 nothing is known
