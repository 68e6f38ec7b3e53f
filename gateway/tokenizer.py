"""A model's own tokenizer, from the tokenizer.json that lies beside its weights: how many tokens a text is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


class BadTokenizer(Exception):
    """No tokenizer can be had from a file: "holds 'PATH', which ..."."""


class Tokenizer:
    """The tokenizer in the file at `path`; `unchanged` says whether the file is still the one that was read.

    Reading holds the interpreter's lock: 0.2 s for Falcon's 65,024 tokens, 2 s for Gemma's 262,144.

    Raises:
        BadTokenizer: the file cannot be read, or holds no tokenizer.
    """

    def __init__(self, path: Path) -> None:
        import tokenizers  # 30 ms that only those pay who have one

        self._path = path
        try:
            self._stamp = _stamp(path)
            data = path.read_bytes()
        except OSError as error:
            raise BadTokenizer(f"cannot be read: {error.strerror}") from None
        try:
            self._model = tokenizers.Tokenizer.from_buffer(data)
        except ValueError:
            raise BadTokenizer("is not a tokenizer.json that can be used") from None
        # Some files cut or fill every text to the length of a training batch: that is no count.
        self._model.no_truncation()
        self._model.no_padding()

    def counts(self, texts: Sequence[str]) -> list[int]:
        """The tokens of each text, without those that begin or end a prompt. Other threads run meanwhile."""
        # Not `encode`: it keeps the interpreter's lock to itself and notes where each token lies.
        return [len(found) for found in self._model.encode_batch_fast(list(texts), add_special_tokens=False)]

    def unchanged(self) -> bool:
        """Whether the file is still the same."""
        try:
            return _stamp(self._path) == self._stamp
        except OSError:
            return False


def _stamp(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns
