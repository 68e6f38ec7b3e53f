"""Ways to hold the weights in fewer bits, the least lossy first, as vLLM 0.24 offers them for every class we serve.

Only the layers' matrices are quantised; embeddings, output head and norms stay in 16 bits.
"""

from __future__ import annotations

from dataclasses import dataclass

# The compiled wheels of vLLM 0.24.0 hold code for these and newer (the architectures listed in its _C library).
OLDEST_CAPABILITY = (7, 5)
BFLOAT16_CAPABILITY = (8, 0)  # Ampere
FP8_CAPABILITY = (8, 9)  # Ada: computes in FP8; older cards only keep the weights in it (vLLM's Marlin kernel)


@dataclass(frozen=True)
class Quantisation:
    """`argument` is what `--quantization` takes, None for what the checkpoint itself says. `bytes` are per quantised weight."""

    name: str
    argument: str | None
    bytes: float
    capability: tuple[int, int]
    loss: str


# fp8_per_tensor is what `fp8` means for a checkpoint in 16 bits; from 0.32 on only this name is left.
# 4 bits and, for every 64 weights, a scale: of one byte and a little for bitsandbytes (QLoRA's double quantisation,
# arXiv 2305.14314, 0.127 bit a weight), of two bytes and half a byte of zero point for every 128 weights with AWQ.
NONE = Quantisation("none", None, 2.0, OLDEST_CAPABILITY, "nothing is lost")
FP8 = Quantisation("fp8", "fp8_per_tensor", 1.0, OLDEST_CAPABILITY, "8 bits, made while loading: little is lost")
AWQ = Quantisation(
    "awq", None, 0.5 + 2.5 / 128, OLDEST_CAPABILITY, "4 bits, a checkpoint made with sample texts: some is lost"
)
BITSANDBYTES = Quantisation(
    "bitsandbytes",
    "bitsandbytes",
    0.5 + 0.127 / 8,
    OLDEST_CAPABILITY,
    "4 bits, made while loading: most is lost, and it is slow",
)
ALL = (NONE, FP8, AWQ, BITSANDBYTES)
NAMES = tuple(quantisation.name for quantisation in ALL)
