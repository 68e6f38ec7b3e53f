"""Fine-tuned models as adapters: what reaches the command, and what is refused."""

import json
from pathlib import Path

import pytest

from serving.adapters import AdapterError, parse_adapter
from serving.hardware import Machine
from serving.plan import Options, Plan, make_plan
from serving.profiles import find_profile

CPU = Machine(8, 64 << 30, 60 << 30)


def adapter(folder: Path, rank: object) -> Path:
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"r": rank}))
    return folder


def plan(*adapters: tuple[str, str], model: str = "falcon3-1b-instruct") -> Plan:
    return make_plan(CPU, find_profile(model), Options(adapters=adapters), Path("/env/bin/python"), "/m")


def test_adapters_become_vllms_arguments_at_the_largest_rank(tmp_path: Path) -> None:
    one, two = adapter(tmp_path / "a b", 8), adapter(tmp_path / "two", 48)
    made = plan(("notaire", str(one)), ("avocat", str(two)), ("mairie", "someone/lora"))
    at = made.argv.index("--enable-lora")
    assert made.argv[at : at + 9] == (
        *("--enable-lora", "--max-loras", "3", "--max-lora-rank", "64"),
        *("--lora-modules", f"notaire={one}", f"avocat={two}", "mairie=someone/lora"),
    )
    assert made.adapters == ("notaire", "avocat", "mairie")
    assert made.sequences == 8
    assert "--enable-lora" not in plan().argv


@pytest.mark.parametrize(("rank", "allowed"), [(1, "1"), (2, "8"), (16, "16"), (300, "320"), (512, "512")])
def test_the_rank_is_one_that_vllm_allows(tmp_path: Path, rank: int, allowed: str) -> None:
    argv = plan(("a", str(adapter(tmp_path / "a", rank)))).argv
    assert argv[argv.index("--max-lora-rank") + 1] == allowed


@pytest.mark.parametrize(
    ("rank", "sentence"),
    [(513, "rank 513 is more than vLLM serves"), (0, "r = 0; a LoRA adapter has"), (None, "r = None; a LoRA adapter")],
)
def test_a_wrong_rank_is_refused(tmp_path: Path, rank: object, sentence: str) -> None:
    with pytest.raises(AdapterError, match=sentence):
        plan(("a", str(adapter(tmp_path / "a", rank))))


def test_a_wrong_folder_or_name_is_refused_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(
        AdapterError, match=rf"--adapter a={tmp_path}: adapter_config.json cannot be read \(No such file"
    ):
        plan(("a", str(tmp_path)))
    with pytest.raises(AdapterError, match=r"--adapter a=\./nowhere: no such folder, and no hub id"):
        plan(("a", "./nowhere"))
    with pytest.raises(AdapterError, match=r"--adapter falcon3-1b-instruct=…: the name is taken"):
        plan(("falcon3-1b-instruct", "x/y"))
    with pytest.raises(AdapterError, match=r"--adapter a=…: the name is taken"):
        plan(("a", "x/y"), ("a", "x/z"))
    for model in ("falcon-7b-instruct", "falcon-40b-instruct"):  # the latter does not even fit that card
        with pytest.raises(AdapterError, match=rf"no LoRA adapters for {model}'s class"):
            plan(("a", "x/y"), model=model)


@pytest.mark.parametrize("text", ["a", "=x", "a=", "a b=x", "a,b=x"])
def test_the_command_line_takes_name_and_folder(text: str) -> None:
    assert parse_adapter("avocat=/models/a=b") == ("avocat", "/models/a=b")
    with pytest.raises(AdapterError, match="must be NAME=FOLDER"):
        parse_adapter(text)
