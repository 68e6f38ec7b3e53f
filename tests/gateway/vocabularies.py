"""Small real tokenizers, trained on French and on the chat templates: a byte-level BPE and a unigram that falls back to bytes."""

import json
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from serving.profiles import TEMPLATES

_PROSE = (
    "Comment puis-je suivre l'avis que j'ai déposé la semaine dernière sur votre plateforme ? "
    "La livraison est arrivée en retard, mais le service a répondu très vite. User: Assistant: Question : Réponse :\n"
)
_BYTES = [f"<0x{byte:02X}>" for byte in range(256)]


def corpus() -> list[str]:
    templates = [path.read_text(encoding="utf-8") for path in sorted(TEMPLATES.glob("*.jinja"))]
    return [line for text in [*templates, _PROSE] for line in text.splitlines(keepends=True)] * 20


def byte_level() -> Tokenizer:
    """As GPT-2, Falcon and Llama 3 have it."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=2000,
        special_tokens=["<bos>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(corpus(), trainer)
    return made


def byte_fallback() -> Tokenizer:
    """As Llama 2 and Gemma have it: spaces are letters, and what no piece covers is written byte by byte."""
    made = Tokenizer(models.Unigram())
    made.normalizer = normalizers.Replace(" ", "▁")
    made.pre_tokenizer = pre_tokenizers.Split(Regex("▁"), "merged_with_next")
    trainer = trainers.UnigramTrainer(vocab_size=1500, unk_token="<unk>", special_tokens=["<unk>"], show_progress=False)
    made.train_from_iterator(corpus(), trainer)
    learned = {piece: score for piece, score in json.loads(made.to_str())["model"]["vocab"] if piece != "<unk>"}
    # So small a corpus teaches hardly more than syllables: its words come in as a large one would have taught them.
    words = {f"▁{word}" for text in corpus() for word in text.split()}
    pieces = {**dict.fromkeys(_BYTES, -20.0), **dict.fromkeys(words, -8.0), **learned}
    made = Tokenizer(models.Unigram([("<unk>", 0.0), *pieces.items()], unk_id=0, byte_fallback=True))
    made.normalizer = normalizers.Replace(" ", "▁")
    made.add_special_tokens(["<bos>"])
    return made


def saved(made: Tokenizer, folder: Path, *, longest: int | None = None) -> Path:
    """Its file; `longest` cuts every text at so many tokens, as some published files do."""
    if longest is not None:
        made.enable_truncation(longest)
        made.enable_padding(length=longest)
    path = folder / "tokenizer.json"
    made.save(str(path))
    return path
