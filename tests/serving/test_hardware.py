from pathlib import Path

import pytest

from serving.hardware import Gpu, nvml_gpu, parse_gpus, read_flags, read_machine, read_memory, read_smi, visible

MIB = 1 << 20

# Recorded: nvidia-smi --query-gpu=name,memory.total,memory.free,compute_cap --format=csv,noheader,nounits
H100 = "NVIDIA H100 80GB HBM3, 81559, 81079, 9.0\n"


@pytest.mark.parametrize(
    ("text", "gpus"),
    [
        (H100, (Gpu("NVIDIA H100 80GB HBM3", 81559 * MIB, 81079 * MIB, (9, 0)),)),
        (H100 + H100, (Gpu("NVIDIA H100 80GB HBM3", 81559 * MIB, 81079 * MIB, (9, 0)),) * 2),
        ("Tesla V100-SXM2-16GB, 16160, 15800, 7.0\n", (Gpu("Tesla V100-SXM2-16GB", 16160 * MIB, 15800 * MIB, (7, 0)),)),
        ("", ()),
        ("NVIDIA GB10, [N/A], [N/A], 12.1\n", ()),
        ("No devices were found\n", ()),
    ],
)
def test_nvidia_smi_is_read_as_it_writes(text: str, gpus: tuple[Gpu, ...]) -> None:
    assert parse_gpus(text) == gpus


def test_a_driver_that_fails_means_no_gpu(tmp_path: Path) -> None:
    broken = tmp_path / "nvidia-smi"
    broken.write_text("#!/bin/sh\necho 'NVIDIA-SMI has failed'\nexit 9\n")
    broken.chmod(0o755)
    assert read_smi(str(broken)) == ()
    assert read_smi(str(tmp_path / "missing")) == ()
    listing = tmp_path / "listing"
    listing.write_text(f"#!/bin/sh\necho '{H100.strip()}'\n")
    listing.chmod(0o755)
    assert read_smi(str(listing)) == (Gpu("NVIDIA H100 80GB HBM3", 81559 * MIB, 81079 * MIB, (9, 0)),)


class Driver:
    """A driver's library with one GPU, as nvidia-ml-py shows it."""

    def __init__(self, name: str | bytes) -> None:
        self.name = name
        self.total, self.free = 81559 * MIB, 81079 * MIB

    def nvmlDeviceGetName(self, handle: object) -> str | bytes:  # noqa: N802 - the library's names
        return self.name

    def nvmlDeviceGetMemoryInfo(self, handle: object) -> "Driver":  # noqa: N802
        return self

    def nvmlDeviceGetCudaComputeCapability(self, handle: object) -> tuple[int, int]:  # noqa: N802
        return 9, 0


@pytest.mark.parametrize("name", ["NVIDIA H100 80GB HBM3", b"NVIDIA H100 80GB HBM3"])
def test_the_drivers_library_tells_the_same_as_nvidia_smi(name: str | bytes) -> None:
    assert (nvml_gpu(Driver(name), None),) == parse_gpus(H100)


@pytest.mark.parametrize(
    ("setting", "names"),
    [
        (None, "abc"),
        ("", ""),
        ("-1", ""),
        ("2,0", "ca"),
        ("1,7,0", "b"),  # CUDA stops at the first that is not there
        ("GPU-8932f937", "abc"),  # which one that is, only the driver knows
    ],
)
def test_hidden_gpus_are_not_planned_for(setting: str | None, names: str) -> None:
    gpus = tuple(Gpu(name, 1, 1, (9, 0)) for name in "abc")
    assert "".join(gpu.name for gpu in visible(gpus, setting)) == names


def test_a_container_limit_is_the_memory_there_is(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:       16384 kB\nMemFree:         1024 kB\nMemAvailable:    8192 kB\n")
    limit = tmp_path / "memory.max"
    assert read_memory(meminfo, limit) == (16 * MIB, 8 * MIB)
    limit.write_text("max\n")
    assert read_memory(meminfo, limit) == (16 * MIB, 8 * MIB)
    limit.write_text(f"{4 * MIB}\n")
    assert read_memory(meminfo, limit) == (4 * MIB, 4 * MIB)


@pytest.mark.parametrize(
    ("text", "flags"),
    [
        ("processor : 0\nflags\t\t: fpu avx2 avx512f avx512_bf16\n", {"avx2", "avx512f", "avx512_bf16"}),
        ("Features : fp asimd bf16\n", {"asimd", "bf16"}),
        ("", set()),
    ],
)
def test_the_instructions_that_matter_are_read(tmp_path: Path, text: str, flags: set[str]) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(text)
    assert read_flags(cpuinfo) == flags


def test_this_machine_has_a_core_and_memory() -> None:
    machine = read_machine()
    assert machine.cores >= 1
    assert 0 < machine.available <= machine.memory
