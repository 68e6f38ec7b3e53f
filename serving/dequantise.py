"""Turn a quantised GGUF file into a folder that vLLM loads: bf16 safetensors, config, tokenizer.

A script for the model server's own Python (`.venv-vllm`), which has torch and transformers; it imports nothing of ours
and is started by `embedded.py`. `save_pretrained` refuses a model that came out of a GGUF file, so the state dict is
written as it is, with a config that no longer mentions the quantisation.

    python dequantise.py model.gguf out-folder
"""

# mypy: disable-error-code="import-not-found"

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig


def say(what: str) -> None:
    """One line of progress for whoever started this."""
    print(what, flush=True)  # noqa: T201


def write_weights(model: torch.nn.Module, folder: Path) -> None:
    """Write each tensor once: tied weights (the output layer is the embedding) are left out, loaders tie them again."""
    seen: set[int] = set()
    tensors: dict[str, torch.Tensor] = {}
    for name, tensor in model.state_dict().items():
        if tensor.data_ptr() not in seen:
            seen.add(tensor.data_ptr())
            tensors[name] = tensor.to(torch.bfloat16).contiguous()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def main(gguf: Path, folder: Path) -> None:
    """Read `gguf`, write `folder` (which exists and is empty)."""
    source = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    say("reading the tokenizer")
    tokenizer = AutoTokenizer.from_pretrained(**source)
    tokenizer.save_pretrained(folder)
    say("dequantising the weights")
    model = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.bfloat16)
    say("writing the weights")
    write_weights(model, folder)
    config = model.config.to_dict()
    config.pop("quantization_config", None)
    config.pop("_name_or_path", None)
    config |= {"architectures": [type(model).__name__], "dtype": "bfloat16"}
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    generation = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    generation.save_pretrained(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
