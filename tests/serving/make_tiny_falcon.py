"""Make a Falcon of our own: the architecture of Falcon-7B (multi-query, parallel attention), tiny, with random weights.

A script for the model server's Python, which has torch and transformers:

    python make_tiny_falcon.py out-folder
    python make_tiny_falcon.py out-folder adapter-folder    # of Falcon 3's architecture, which can have adapters, and one
"""

# mypy: disable-error-code="import-not-found"

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import ByteLevelBPETokenizer
from transformers import FalconConfig, FalconForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

END = "<|endoftext|>"

TEXT = """User: Comment puis-je déposer un avis sur la plateforme ?
Assistant: Cliquez sur « Nouvel avis », écrivez votre message puis envoyez-le.
User: Merci, et comment suivre ma demande ?
Assistant: Ouvrez la page « Mes demandes » : chaque retour y porte son état et la date de la dernière réponse.
Les retours des utilisateurs sont lus, classés par thème et transmis aux équipes concernées dans la semaine.
Une réponse claire, sobre et fondée vaut mieux qu'une longue réponse où l'on se perd.
"""


TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
HIDDEN, LAYERS, RANK = 128, 2, 8


def main(folder: Path) -> None:
    """Write weights, configuration and tokenizer into `folder`."""
    end = make_tokenizer(folder)
    torch.manual_seed(7)
    config = FalconConfig(
        vocab_size=512,
        hidden_size=HIDDEN,
        num_hidden_layers=LAYERS,
        num_attention_heads=2,
        multi_query=True,
        parallel_attn=True,
        new_decoder_architecture=False,
        bias=False,
        alibi=False,
        max_position_embeddings=1024,
        bos_token_id=end,
        eos_token_id=end,
    )
    FalconForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)


def make_third(folder: Path, adapter: Path) -> None:
    """The same of Falcon 3's architecture, which is Llama's, and an adapter whose random values are far from small."""
    end = make_tokenizer(folder, TEMPLATE)
    torch.manual_seed(7)
    config = LlamaConfig(
        vocab_size=512,
        hidden_size=HIDDEN,
        intermediate_size=2 * HIDDEN,
        num_hidden_layers=LAYERS,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=1024,
        bos_token_id=end,
        eos_token_id=end,
    )
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    weights = {}
    for layer in range(LAYERS):
        for name, inner in (("self_attn.o_proj", HIDDEN), ("mlp.down_proj", 2 * HIDDEN)):
            place = f"base_model.model.model.layers.{layer}.{name}"
            weights[f"{place}.lora_A.weight"] = torch.randn(RANK, inner, dtype=torch.bfloat16)
            weights[f"{place}.lora_B.weight"] = torch.randn(HIDDEN, RANK, dtype=torch.bfloat16)
    save_file(weights, adapter / "adapter_model.safetensors")
    described = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": RANK,
        "lora_alpha": 2 * RANK,
        "target_modules": ["o_proj", "down_proj"],
        "bias": "none",
    }
    (adapter / "adapter_config.json").write_text(json.dumps(described))


def make_tokenizer(folder: Path, template: str | None = None) -> int:
    """Train one on a few lines and write it into `folder`; its end token."""
    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator([TEXT] * 4, vocab_size=512, min_frequency=1, special_tokens=[END], show_progress=False)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=trained._tokenizer, eos_token=END, bos_token=END)
    if template:
        tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    return int(tokenizer.eos_token_id)


if __name__ == "__main__":
    if len(sys.argv) > 2:
        make_third(Path(sys.argv[1]), Path(sys.argv[2]))
    else:
        main(Path(sys.argv[1]))
