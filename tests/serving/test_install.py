"""What the installer decides, on real folders; installing itself is `make`'s and the demo's business."""

import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from serving import install

WHEEL = "torch-2.13.0+cpu-cp312-cp312-manylinux_2_28_x86_64.whl"


@pytest.mark.parametrize(
    ("wanted", "gpu", "device"),
    [(None, False, "cpu"), (None, True, "cuda"), ("cpu", True, "cpu"), ("cuda", False, "cuda")],
)
def test_the_device_is_what_was_asked_for_else_what_is_there(wanted: str | None, gpu: bool, device: str) -> None:
    assert install.choose_device(wanted, gpu) == device


@pytest.mark.parametrize(
    ("script", "answers"),
    [("echo 'GPU 0: NVIDIA H100'", True), ("echo 'No devices were found'; exit 6", False), ("exit 9", False)],
)
def test_a_gpu_counts_when_its_driver_answers(tmp_path: Path, script: str, answers: bool) -> None:
    command = tmp_path / "nvidia-smi"
    command.write_text(f"#!/bin/sh\n{script}\n")
    command.chmod(0o755)
    assert install.gpu_answers(str(command)) is answers
    assert install.gpu_answers(str(tmp_path / "missing")) is False


@pytest.mark.parametrize(("system", "machine"), [("Darwin", "arm64"), ("Windows", "AMD64"), ("Linux", "ppc64le")])
def test_a_machine_without_wheels_is_told_the_way_out(system: str, machine: str) -> None:
    with pytest.raises(install.InstallError, match="PASSERELLE_VLLM_PYTHON"):
        install.check_platform(system, machine)


def test_local_folders_come_from_pips_and_uvs_own_settings(tmp_path: Path) -> None:
    names = ["one", "two", "three", "with space"]
    one, two, three, spaced = (tmp_path / name for name in names)
    for folder in (one, two, three, spaced):
        folder.mkdir()
    environment = {"PIP_FIND_LINKS": f"{one} https://example.org/wheels", "UV_FIND_LINKS": f"{two},{one}"}
    address = str(spaced).replace(" ", "%20")
    config = (
        f":env:.find-links='{one}'\nglobal.find-links='\\nfile://{address}\\n{three}\\n/none'\nglobal.timeout='5'\n"
    )
    assert install.local_folders(environment, config) == [one, two, spaced, three]
    assert install.local_folders({}, "") == []


def test_the_wheel_of_this_python_and_machine_is_taken(tmp_path: Path) -> None:
    (tmp_path / WHEEL).write_bytes(b"wheel")
    (tmp_path / WHEEL.replace("2.13.0", "2.12.0")).write_bytes(b"older")
    assert install.find_torch([tmp_path], "cp312", "x86_64") == tmp_path / WHEEL
    assert install.find_torch([tmp_path], "cp313", "x86_64") is None
    assert install.find_torch([tmp_path], "cp312", "aarch64") is None


def test_a_wheel_with_another_sum_is_refused(tmp_path: Path) -> None:
    wheel = tmp_path / WHEEL.replace("312", "311")
    wheel.write_bytes(b"not the wheel")
    found = hashlib.sha256(b"not the wheel").hexdigest()
    with pytest.raises(install.InstallError, match=found):
        install.find_torch([tmp_path], "cp311", "x86_64")


def test_a_local_wheel_is_installed_without_asking_any_index(tmp_path: Path) -> None:
    (tmp_path / WHEEL).write_bytes(b"wheel")
    target = install.Target("cpu", "cp312", "x86_64")
    unreachable = "http://127.0.0.1:1"
    assert install.torch_arguments(target, [tmp_path], unreachable) == [str(tmp_path / WHEEL)]


def test_an_index_out_of_reach_ends_in_the_next_step() -> None:
    target = install.Target("cpu", "cp312", "x86_64")
    with pytest.raises(install.InstallError, match=r"cp312 on x86_64 is not on this machine .*PIP_FIND_LINKS"):
        install.torch_arguments(target, [], "http://127.0.0.1:1")


@pytest.fixture
def index() -> Iterator[str]:
    class Index(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            return

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Index) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_an_index_that_answers_is_used(index: str) -> None:
    target = install.Target("cpu", "cp312", "x86_64")
    assert install.torch_arguments(target, [], index) == ["--index-url", index, "torch==2.13.0+cpu"]


def test_an_index_that_hangs_costs_the_limit_and_no_more() -> None:
    import socket

    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        assert install.index_answers(f"http://127.0.0.1:{silent.getsockname()[1]}", seconds=0.2) is False


def test_a_finished_environment_is_left_alone_and_a_failed_one_never_looks_finished(tmp_path: Path) -> None:
    target = install.Target("cuda", install.this_python(), "x86_64")
    ready = tmp_path / "ready"
    ready.write_text(target.fingerprint())
    install.install(tmp_path, "no-such-uv", target)
    ready.write_text("of another lock")
    with pytest.raises(install.InstallError, match="empty environment failed"):
        install.install(tmp_path, "false", target)
    assert not ready.exists()


def test_both_locks_pin_every_package_by_hash() -> None:
    for device in ("cpu", "cuda"):
        lines = install.Target(device, "cp311", "x86_64").requirements.read_text().splitlines()
        pins = [number for number, line in enumerate(lines) if line and not line.startswith((" ", "#"))]
        assert len(pins) > 100
        assert all("==" in lines[number] and "--hash=sha256:" in lines[number + 1] for number in pins)
