"""How large a model's weights are where its files are here: from the safetensors index or the files' own headers."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serving.errors import ServingError

INDEX = "model.safetensors.index.json"
# A header is JSON of some hundred kilobytes; the format allows 100 MB (github.com/huggingface/safetensors, "Format").
LARGEST_HEADER = 100_000_000
_TYPES = {"F64": 8, "F32": 4, "BF16": 2, "F16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "I8": 1, "U8": 1, "I32": 4, "I64": 8}


class WeightsError(ServingError):
    """A file of the model cannot be read; the sentence says which and why."""


@dataclass(frozen=True)
class Stored:
    """The weights as they lie on disk: their bytes, and how many parameters they are."""

    bytes: int
    parameters: int


def read_object(path: Path) -> dict[str, Any]:
    """A file that holds one JSON object. Raises WeightsError."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise WeightsError(f"{path} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise WeightsError(f"{path} is not a JSON object")
    return value


def stored_weights(folder: Path) -> Stored | None:
    """The weights of a model folder; None when it holds no safetensors. Raises WeightsError.

    Where only the index and the first file's header are here, as in a download that goes on, the index tells the bytes.
    """
    index = folder / INDEX
    files = sorted(folder.glob("*.safetensors"))
    headers = [_header(file) for file in files]
    counted, size = sum(header.parameters for header in headers), sum(header.bytes for header in headers)
    if not index.is_file():
        return Stored(size, counted) if headers else None
    total = read_object(index).get("metadata", {}).get("total_size")
    if not isinstance(total, int) or total < 1:
        raise WeightsError(f"{index}: metadata.total_size = {total!r} must be the weights' bytes")
    return Stored(total, round(total * counted / size) if size else total // _config_bytes(folder))


def _config_bytes(folder: Path) -> int:
    config = read_object(folder / "config.json")
    names = {"float32": 4, "bfloat16": 2, "float16": 2}
    return names.get(str(config.get("torch_dtype") or config.get("dtype")), 2)


def _header(path: Path) -> Stored:
    """Eight bytes of length, little-endian, then JSON: each tensor's type, shape and place."""
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > LARGEST_HEADER:
                raise ValueError(f"a header of {length} bytes")
            tensors = json.loads(file.read(length))
        spans = [
            (tensor["data_offsets"], tensor["dtype"]) for name, tensor in tensors.items() if name != "__metadata__"
        ]
        sizes = [(end - begin, _TYPES.get(kind, 2)) for (begin, end), kind in spans]
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        raise WeightsError(f"{path} is no safetensors file: {error}") from error
    return Stored(sum(size for size, _ in sizes), sum(size // width for size, width in sizes))
