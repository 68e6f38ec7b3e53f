"""What a model costs: read from its own config.json and the headers of its weights, no library asked."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serving.errors import ServingError
from serving.weights import Stored, WeightsError, read_object, stored_weights

FALCONS = ("falcon", "RefinedWebModel", "RefinedWeb")  # the first Falcons, by today's and by their first names
DTYPE_BYTES = {"bfloat16": 2, "float16": 2, "float32": 4, "fp8": 1}
# vLLM's pages of the cache hold a multiple of this many tokens (v1/attention/backends: FlashAttention).
PAGE_TOKENS = 16


class ModelError(ServingError):
    """A model folder cannot be used; the sentence says which file and why."""


@dataclass(frozen=True)
class Mamba:
    """The state-space half of a hybrid layer (Mamba-2), in vLLM's shapes (layers/mamba/mamba_utils.py, mamba2_state_shape)."""

    inner: int
    heads: int
    head_size: int
    groups: int
    state: int
    kernel: int

    @property
    def convolved(self) -> int:
        """Channels that pass through the convolution: the inner ones and the two projections of the state."""
        return self.inner + 2 * self.groups * self.state

    def state_bytes(self, dtype: str) -> int:
        """Bytes one sequence holds in one layer, however long it is: the convolution's window and the state."""
        return (self.convolved * (self.kernel - 1) + self.heads * self.head_size * self.state) * DTYPE_BYTES[dtype]

    def parameters(self, hidden: int) -> tuple[int, int]:
        """Of one layer: in the two projections' matrices, and in the rest (convolution with bias; A, D, time step's bias)."""
        matrices = hidden * (self.inner + self.convolved + self.heads) + self.inner * hidden
        return matrices, self.convolved * (self.kernel + 1) + 3 * self.heads


@dataclass(frozen=True)
class Dimensions:
    """The numbers of a decoder that memory and speed depend on. `kv_heads` is 1 for Falcon's multi-query attention.

    `matrices` are the parameters in the layers' matrices, which a quantisation makes smaller; `embeddings` those of one
    embedding; `tied` says that the output head is the same one; `widest` is the feed-forward size and `gated` its kind.
    `adapters` is False where vLLM serves no LoRA adapters and `fp8_cache` where it keeps the cache in 16 bits: its class for
    the first Falcons lacks both. `held` are the weights' bytes where the checkpoint is quantised already.
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
    matrices: int = 0
    embeddings: int = 0
    tied: bool = False
    widest: int = 0
    gated: bool = True
    fp8_cache: bool = True
    mamba: Mamba | None = None
    held: int | None = None

    def weights_bytes(self, dtype: str) -> int:
        """Bytes of the weights in `dtype`."""
        return self.parameters * DTYPE_BYTES[dtype]

    def kv_bytes_per_token(self, dtype: str) -> int:
        """Bytes of keys and values one token holds: layers × kv heads × head size × 2 × bytes of the type."""
        return self.layers * self.kv_heads * self.head_size * 2 * DTYPE_BYTES[dtype]

    def page_tokens(self, dtype: str) -> int:
        """Tokens of one page: in a hybrid as many as weigh what one sequence's state does, so that both kinds are of one size."""
        if self.mamba is None:
            return PAGE_TOKENS
        per_token = self.kv_heads * self.head_size * 2 * DTYPE_BYTES[dtype]
        return math.ceil(self.mamba.state_bytes("bfloat16") / per_token / PAGE_TOKENS) * PAGE_TOKENS


def read_dimensions(folder: Path) -> Dimensions:
    """Read a model folder: `config.json`, and the size of the weights where they are there. Raises ModelError."""
    path = folder / "config.json"
    try:
        return dimensions(read_object(path), path, stored_weights(folder))
    except WeightsError as error:
        raise ModelError(str(error)) from error


def dimensions(config: dict[str, Any], source: object = "config.json", stored: Stored | None = None) -> Dimensions:
    """The dimensions in a Transformers configuration, under Llama's or Falcon's names. Raises ModelError.

    `stored` tells the weights exactly; without it the parameters are counted.
    """
    layers = _number(config, source, "num_hidden_layers", "n_layer")
    hidden = _number(config, source, "hidden_size")
    heads = _number(config, source, "num_attention_heads", "n_head")
    vocabulary = _number(config, source, "vocab_size")
    head_size = config.get("head_dim") or hidden // heads
    kv_heads = _kv_heads(config, heads)
    falcon = config.get("model_type") in FALCONS
    mamba = _mamba(config, hidden) if config.get("model_type") == "falcon_h1" else None
    tied = bool(
        config.get("tie_word_embeddings", falcon or config.get("model_type") in {"gemma", "gemma2", "gemma3_text"})
    )
    matrices, rest = _layer(config, (hidden, heads * head_size, kv_heads * head_size), mamba)
    counted = layers * (matrices + rest) + vocabulary * hidden * (1 if tied else 2) + hidden * (2 if falcon else 1)
    quantised = stored is not None and "quantization_config" in config
    return Dimensions(
        layers=layers,
        hidden=hidden,
        heads=heads,
        kv_heads=kv_heads,
        head_size=head_size,
        vocabulary=vocabulary,
        max_positions=config.get("max_position_embeddings") or 2048,  # Falcon-7B's first configs leave it out
        parameters=stored.parameters if stored and not quantised else counted,
        adapters=not falcon,
        matrices=layers * matrices,
        embeddings=vocabulary * hidden,
        tied=tied,
        widest=_feed_forward(config, hidden),
        gated=not falcon,
        fp8_cache=not falcon and mamba is None,
        mamba=mamba,
        held=stored.bytes if stored and quantised else None,
    )


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


def _mamba(config: dict[str, Any], hidden: int) -> Mamba:
    """Falcon-H1's, with the defaults of transformers' configuration_falcon_h1."""
    inner = int(config.get("mamba_d_ssm") or config.get("mamba_expand", 2) * hidden)
    heads = int(config.get("mamba_n_heads", 128))
    size = config.get("mamba_d_head", "auto")
    return Mamba(
        inner=inner,
        heads=heads,
        head_size=inner // heads if size == "auto" else int(size),
        groups=int(config.get("mamba_n_groups", 1)),
        state=int(config.get("mamba_d_state", 256)),
        kernel=int(config.get("mamba_d_conv", 4)),
    )


def _feed_forward(config: dict[str, Any], hidden: int) -> int:
    if config.get("model_type") in FALCONS:
        return int(config.get("ffn_hidden_size") or 4 * hidden)
    return int(config.get("intermediate_size") or 4 * hidden)


def _layer(config: dict[str, Any], sizes: tuple[int, int, int], mamba: Mamba | None) -> tuple[int, int]:
    """Parameters of one layer: in its matrices, and in its biases, norms and the like."""
    hidden, query, kv = sizes
    wide = _feed_forward(config, hidden)
    attention = hidden * (2 * query + 2 * kv)
    if config.get("model_type") in FALCONS:
        return attention + 2 * hidden * wide, _falcon_rest(config, sizes, wide)
    matrices, rest = attention + 3 * hidden * wide, _norms(config, hidden)  # gated: up, gate, down
    if config.get("attention_bias") or config.get("model_type") == "qwen2":
        rest += query + 2 * kv + (hidden if config.get("attention_bias") else 0)
    if config.get("mlp_bias"):
        rest += 2 * wide + hidden
    if mamba is not None:
        more, others = mamba.parameters(hidden)
        normed = mamba.inner if config.get("mamba_rms_norm") else 0
        return matrices + more, rest + others + normed
    return matrices, rest


def _norms(config: dict[str, Any], hidden: int) -> int:
    """Root-mean-square norms: two a layer, Gemma 2 and 3 have four, Gemma 3 and Qwen 3 one more for queries and for keys."""
    model_type = config.get("model_type")
    norms = hidden * (4 if model_type in {"gemma2", "gemma3_text"} else 2)
    if model_type in {"gemma3_text", "qwen3"}:
        norms += 2 * int(config.get("head_dim") or hidden // int(config["num_attention_heads"]))
    return norms


def _falcon_rest(config: dict[str, Any], sizes: tuple[int, int, int], wide: int) -> int:
    """Layer norms have a scale and a shift: one a layer in Falcon-7B, two in Falcon-40B and where attention is not parallel."""
    hidden, query, kv = sizes
    two = config.get("new_decoder_architecture") or not config.get("parallel_attn", True)
    if config.get("num_ln_in_parallel_attn"):
        two = config["num_ln_in_parallel_attn"] == 2
    biases = query + 2 * kv + hidden + wide + hidden if config.get("bias") else 0
    return 2 * hidden * (2 if two else 1) + biases
