"""Make a Falcon of our own: the architecture of Falcon-7B (multi-query, parallel attention), tiny, with random weights.

A script for the model server's Python, which has torch and transformers:

    python make_tiny_falcon.py out-folder
"""

# mypy: disable-error-code="import-not-found"

import sys
from pathlib import Path

import torch
from tokenizers import ByteLevelBPETokenizer
from transformers import FalconConfig, FalconForCausalLM, PreTrainedTokenizerFast

END = "<|endoftext|>"

TEXT = """User: Comment puis-je déposer un avis sur la plateforme ?
Assistant: Cliquez sur « Nouvel avis », écrivez votre message puis envoyez-le.
User: Merci, et comment suivre ma demande ?
Assistant: Ouvrez la page « Mes demandes » : chaque retour y porte son état et la date de la dernière réponse.
Les retours des utilisateurs sont lus, classés par thème et transmis aux équipes concernées dans la semaine.
Une réponse claire, sobre et fondée vaut mieux qu'une longue réponse où l'on se perd.
"""


def main(folder: Path) -> None:
    """Write weights, configuration and tokenizer into `folder`."""
    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator([TEXT] * 4, vocab_size=512, min_frequency=1, special_tokens=[END], show_progress=False)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=trained._tokenizer, eos_token=END, bos_token=END)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(7)
    config = FalconConfig(
        vocab_size=512,
        hidden_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        multi_query=True,
        parallel_attn=True,
        new_decoder_architecture=False,
        bias=False,
        alibi=False,
        max_position_embeddings=1024,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    FalconForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
