import json
from pathlib import Path
from typing import Any

import pytest

from serving.model import ModelError, dimensions, read_dimensions

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


@pytest.mark.parametrize(
    ("config", "kv_heads", "kv_bytes", "billions", "positions"),
    [
        (FALCON_7B, 1, 32 * 1 * 64 * 2 * 2, 6.92, 2048),
        (FALCON_40B, 8, 60 * 8 * 64 * 2 * 2, 41.3, 2048),
        (FALCON3_7B, 4, 28 * 4 * 256 * 2 * 2, 7.46, 32768),
        (SMOLLM2, 3, 30 * 3 * 64 * 2 * 2, 0.1345, 8192),
    ],
)
def test_memory_follows_from_the_published_dimensions(
    config: dict[str, Any], kv_heads: int, kv_bytes: int, billions: float, positions: int
) -> None:
    known = dimensions(config)
    assert known.kv_heads == kv_heads
    assert known.kv_bytes_per_token("bfloat16") == kv_bytes
    assert known.parameters / 1e9 == pytest.approx(billions, rel=0.01)
    assert known.weights_bytes("float32") == 2 * known.weights_bytes("float16")
    assert known.max_positions == positions


def test_falcons_first_names_are_understood() -> None:
    old = {"model_type": "RefinedWebModel", "n_layer": 32, "hidden_size": 4544, "n_head": 71, "vocab_size": 65024}
    assert dimensions({**old, "multi_query": True}) == dimensions(FALCON_7B)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (None, "cannot be read"),
        ("{", "is not JSON"),
        (json.dumps({"hidden_size": 8}), "has no num_hidden_layers or n_layer"),
    ],
)
def test_a_folder_that_is_no_model_is_told_in_one_sentence(tmp_path: Path, text: str | None, sentence: str) -> None:
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    with pytest.raises(ModelError, match=sentence):
        read_dimensions(tmp_path)
