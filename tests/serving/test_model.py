import json
import struct
from pathlib import Path
from typing import Any

import pytest

from serving.model import Mamba, ModelError, dimensions, read_dimensions

# The published dimensions, as their config.json files have them.
FALCON_7B = {
    "model_type": "falcon",
    "num_hidden_layers": 32,
    "hidden_size": 4544,
    "num_attention_heads": 71,
    "multi_query": True,
    "new_decoder_architecture": False,
    "vocab_size": 65024,
}
FALCON_40B = {
    "model_type": "falcon",
    "num_hidden_layers": 60,
    "hidden_size": 8192,
    "num_attention_heads": 128,
    "num_kv_heads": 8,
    "new_decoder_architecture": True,
    "multi_query": True,
    "vocab_size": 65024,
}
FALCON3_7B = {
    "model_type": "llama",
    "num_hidden_layers": 28,
    "hidden_size": 3072,
    "intermediate_size": 23040,
    "num_attention_heads": 12,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "vocab_size": 131072,
    "max_position_embeddings": 32768,
}
SMOLLM2 = {
    "model_type": "llama",
    "num_hidden_layers": 30,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "vocab_size": 49152,
    "max_position_embeddings": 8192,
    "tie_word_embeddings": True,
}
GEMMA3 = {
    "model_type": "gemma3_text",
    "num_hidden_layers": 18,
    "hidden_size": 640,
    "intermediate_size": 2048,
    "num_attention_heads": 4,
    "num_key_value_heads": 1,
    "head_dim": 256,
    "vocab_size": 262144,
    "max_position_embeddings": 32768,
}
FALCON_H1_7B = {
    "model_type": "falcon_h1",
    "num_hidden_layers": 44,
    "hidden_size": 3072,
    "intermediate_size": 12288,
    "num_attention_heads": 12,
    "num_key_value_heads": 2,
    "head_dim": 128,
    "mamba_d_ssm": 3072,
    "mamba_n_heads": 24,
    "mamba_n_groups": 1,
    "mamba_d_state": 256,
    "mamba_d_conv": 4,
    "vocab_size": 130048,
    "max_position_embeddings": 262144,
}


@pytest.mark.parametrize(
    ("config", "kv_heads", "kv_bytes", "parameters", "positions"),
    [
        # The parameters are those the models' pages give, to the last one.
        (FALCON_7B, 1, 32 * 1 * 64 * 2 * 2, 6_921_720_704, 2048),
        (FALCON_40B, 8, 60 * 8 * 64 * 2 * 2, 41_303_293_952, 2048),
        (FALCON3_7B, 4, 28 * 4 * 256 * 2 * 2, 7_455_550_464, 32768),
        (SMOLLM2, 3, 30 * 3 * 64 * 2 * 2, 134_515_008, 8192),
        (GEMMA3, 1, 18 * 1 * 256 * 2 * 2, 268_098_176, 32768),
        # 44 layers of in and out projections, convolution, A, D and time step; attention; feed-forward; two norms
        (
            FALCON_H1_7B,
            2,
            44 * 2 * 128 * 2 * 2,
            44 * (3072 * (2 * 3072 + 512 + 24) + 3072 * 3072 + 3584 * 5 + 3 * 24)
            + 44 * (2 * 3072 * 1536 + 2 * 3072 * 256 + 3 * 3072 * 12288 + 2 * 3072)
            + 2 * 130048 * 3072
            + 3072,
            262144,
        ),
    ],
)
def test_memory_follows_from_the_published_dimensions(
    config: dict[str, Any], kv_heads: int, kv_bytes: int, parameters: int, positions: int
) -> None:
    known = dimensions(config)
    assert known.kv_heads == kv_heads
    assert known.kv_bytes_per_token("bfloat16") == kv_bytes
    assert known.kv_bytes_per_token("fp8") == kv_bytes // 2
    assert known.parameters == parameters
    assert known.weights_bytes("float32") == 2 * known.weights_bytes("float16")
    assert known.max_positions == positions


def test_a_hybrids_state_does_not_grow_and_sets_the_size_of_a_page() -> None:
    known = dimensions(FALCON_H1_7B)
    assert known.mamba == Mamba(inner=3072, heads=24, head_size=128, groups=1, state=256, kernel=4)
    # convolution: 3072 + 2 × 256 channels × 3 steps; state: 24 heads × 128 × 256; two bytes each
    assert known.mamba.state_bytes("bfloat16") == (3584 * 3 + 24 * 128 * 256) * 2 == 1_594_368
    # a token's keys and values in one layer weigh 2 × 128 × 2 × 2 = 1,024 bytes: 1,557 tokens, in sixteens 1,568
    assert known.page_tokens("bfloat16") == 1568
    assert dimensions(FALCON_7B).page_tokens("bfloat16") == 16


def test_biases_count() -> None:
    plain = dimensions(FALCON3_7B).parameters
    assert dimensions({**FALCON3_7B, "attention_bias": True}).parameters - plain == 28 * (3072 + 2 * 1024 + 3072)
    assert dimensions({**FALCON3_7B, "mlp_bias": True}).parameters - plain == 28 * (2 * 23040 + 3072)
    biased = dimensions({**FALCON_7B, "bias": True}).parameters - dimensions(FALCON_7B).parameters
    assert biased == 32 * (4544 + 2 * 64 + 4544 + 18176 + 4544)


def test_what_vllm_lacks_for_the_first_falcons_is_known() -> None:
    assert not dimensions(FALCON_7B).adapters
    assert not dimensions(FALCON_7B).fp8_cache
    assert dimensions(FALCON3_7B).adapters
    assert dimensions(FALCON3_7B).fp8_cache


def model_folder(folder: Path, config: dict[str, Any], index: object = None) -> Path:
    (folder / "config.json").write_text(json.dumps(config))
    if index is not None:
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def safetensors(path: Path, tensors: dict[str, tuple[str, int, int]]) -> None:
    """A file with a header and no data: nothing else of it is read."""
    header = {"__metadata__": {"format": "pt"}}
    rows = {name: {"dtype": t, "shape": [1], "data_offsets": [a, b]} for name, (t, a, b) in tensors.items()}
    text = json.dumps({**header, **rows}).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text)


@pytest.mark.parametrize(("stored", "parameters"), [("bfloat16", 6_000), ("float32", 3_000)])
def test_the_index_tells_the_weights(tmp_path: Path, stored: str, parameters: int) -> None:
    index = {"metadata": {"total_size": 12_000}, "weight_map": {}}
    known = read_dimensions(model_folder(tmp_path, {**FALCON_7B, "torch_dtype": stored}, index))
    assert known.parameters == parameters
    assert known.weights_bytes("bfloat16") == 2 * parameters


def test_without_an_index_the_files_own_headers_tell_the_weights(tmp_path: Path) -> None:
    model_folder(tmp_path, SMOLLM2)
    safetensors(tmp_path / "a.safetensors", {"one": ("BF16", 0, 200), "two": ("F32", 200, 600)})
    safetensors(tmp_path / "b.safetensors", {"three": ("BF16", 0, 50)})
    assert read_dimensions(tmp_path).parameters == 100 + 100 + 25


def test_a_quantised_checkpoint_is_taken_as_it_lies_there(tmp_path: Path) -> None:
    config = {**FALCON3_7B, "quantization_config": {"quant_method": "awq"}}
    known = read_dimensions(model_folder(tmp_path, config, {"metadata": {"total_size": 4_600_000_000}}))
    assert known.held == 4_600_000_000
    assert known.parameters == 7_455_550_464


def test_a_broken_file_of_weights_is_told_in_one_sentence(tmp_path: Path) -> None:
    model_folder(tmp_path, SMOLLM2)
    (tmp_path / "a.safetensors").write_bytes(b"\x01")
    with pytest.raises(ModelError, match=r"a\.safetensors is no safetensors file"):
        read_dimensions(tmp_path)
    (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", 1 << 40))
    with pytest.raises(ModelError, match="a header of 1099511627776 bytes"):
        read_dimensions(tmp_path)
    (tmp_path / "a.safetensors").unlink()
    with pytest.raises(ModelError, match=r"metadata\.total_size = None must be"):
        read_dimensions(model_folder(tmp_path, SMOLLM2, {"metadata": {}}))


def test_falcons_first_names_are_understood() -> None:
    old = {"model_type": "RefinedWebModel", "n_layer": 32, "hidden_size": 4544, "n_head": 71, "vocab_size": 65024}
    assert dimensions({**old, "multi_query": True}) == dimensions(FALCON_7B)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (None, "cannot be read"),
        ("{", "is not JSON"),
        ("[]", "is not a JSON object"),
        (json.dumps({"hidden_size": 8}), "has no num_hidden_layers or n_layer"),
    ],
)
def test_a_folder_that_is_no_model_is_told_in_one_sentence(tmp_path: Path, text: str | None, sentence: str) -> None:
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    with pytest.raises(ModelError, match=sentence):
        read_dimensions(tmp_path)
