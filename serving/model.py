"""What a model costs: read from its own config.json, no library asked."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serving.errors import ServingError

FALCONS = ("falcon", "RefinedWebModel", "RefinedWeb")  # the first Falcons, by today's and by their first names
DTYPE_BYTES = {"bfloat16": 2, "float16": 2, "float32": 4}


class ModelError(ServingError):
    """A model folder cannot be used; the sentence says which file and why."""


@dataclass(frozen=True)
class Dimensions:
    """The numbers of a decoder that memory depends on. `kv_heads` is 1 for Falcon's multi-query attention.

    `adapters` is False where vLLM serves no LoRA adapters: its class for the first Falcons lacks them.
    """

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_size: int
    vocabulary: int
    max_positions: int
    parameters: int
    adapters: bool = True

    def weights_bytes(self, dtype: str) -> int:
        """Bytes of the weights in `dtype`, estimated from the dimensions (within about 2 %)."""
        return self.parameters * DTYPE_BYTES[dtype]

    def kv_bytes_per_token(self, dtype: str) -> int:
        """Bytes of keys and values one token holds: layers × kv heads × head size × 2 × bytes of the type."""
        return self.layers * self.kv_heads * self.head_size * 2 * DTYPE_BYTES[dtype]


def read_dimensions(folder: Path) -> Dimensions:
    """Read `config.json` of a model folder. Raises ModelError."""
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ModelError(f"{path} is not JSON: {error}") from error
    return dimensions(config, path)


def dimensions(config: dict[str, Any], source: object = "config.json") -> Dimensions:
    """The dimensions in a Transformers configuration, under Llama's or Falcon's names. Raises ModelError."""
    layers = _number(config, source, "num_hidden_layers", "n_layer")
    hidden = _number(config, source, "hidden_size")
    heads = _number(config, source, "num_attention_heads", "n_head")
    vocabulary = _number(config, source, "vocab_size")
    head_size = config.get("head_dim") or hidden // heads
    positions = config.get("max_position_embeddings") or 2048  # Falcon-7B's first configs leave it out
    kv_heads = _kv_heads(config, heads)
    parameters = _parameters(config, (layers, hidden, vocabulary), heads * head_size, kv_heads * head_size)
    adapters = config.get("model_type") not in FALCONS
    return Dimensions(layers, hidden, heads, kv_heads, head_size, vocabulary, positions, parameters, adapters)


def _number(config: dict[str, Any], source: object, *names: str) -> int:
    for name in names:
        if isinstance(config.get(name), int):
            return int(config[name])
    raise ModelError(f"{source} has no {' or '.join(names)}: is it the configuration of a decoder-only language model?")


def _kv_heads(config: dict[str, Any], heads: int) -> int:
    if config.get("new_decoder_architecture"):  # Falcon-40B: groups of query heads
        return int(config.get("num_kv_heads") or config.get("n_head_kv") or heads)
    if config.get("multi_query"):  # Falcon-7B
        return 1
    return int(config.get("num_key_value_heads") or heads)


def _parameters(config: dict[str, Any], shape: tuple[int, int, int], query: int, kv: int) -> int:
    """Embedding, attention and feed-forward matrices; norms and biases are left out (under 0.1 %)."""
    layers, hidden, vocabulary = shape
    attention = hidden * (2 * query + 2 * kv)
    if config.get("model_type") in FALCONS:
        feed_forward = 2 * hidden * int(config.get("ffn_hidden_size") or 4 * hidden)
        tied = config.get("tie_word_embeddings", True)
    else:  # gated: up, gate, down
        feed_forward = 3 * hidden * int(config.get("intermediate_size") or 4 * hidden)
        tied = config.get("tie_word_embeddings", False)
    return layers * (attention + feed_forward) + vocabulary * hidden * (1 if tied else 2)
