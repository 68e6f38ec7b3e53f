"""A model's own tokenizer, from the tokenizer.json that lies beside its weights: how many tokens a text is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.steering import english_tokens

if TYPE_CHECKING:
    import tokenizers


class BadTokenizer(Exception):
    """No tokenizer can be had from a file: "holds 'PATH', which ..."."""


class Tokenizer:
    """The tokenizer in the file at `path`; `unchanged` says whether the file is still the one that was read.

    Reading holds the interpreter's lock: 0.2 s for Falcon's 65,024 tokens, 2 s for Gemma's 262,144.

    Raises:
        BadTokenizer: the file cannot be read, or holds no tokenizer.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._stamp = _stamp(path)
        except OSError as error:
            raise BadTokenizer(f"cannot be read: {error.strerror}") from None
        self._model = load(path)
        self._english: list[int] | None = None

    def counts(self, texts: Sequence[str]) -> list[int]:
        """The tokens of each text, without those that begin or end a prompt. Other threads run meanwhile."""
        # Not `encode`: it keeps the interpreter's lock to itself and notes where each token lies.
        return [len(found) for found in self._model.encode_batch_fast(list(texts), add_special_tokens=False)]

    def english(self) -> list[int]:
        """The tokens that are English function words and no part of French; looked for once."""
        if self._english is None:
            self._english = english_tokens(self._model)
        return self._english

    def unchanged(self) -> bool:
        """Whether the file is still the same."""
        try:
            return _stamp(self._path) == self._stamp
        except OSError:
            return False


def load(path: Path) -> tokenizers.Tokenizer:
    """What the file at `path` holds, with no bound to the length of a text.

    Raises:
        BadTokenizer: the file cannot be read, or holds no tokenizer.
    """
    import tokenizers  # 30 ms that only those pay who have one

    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadTokenizer(f"cannot be read: {error.strerror}") from None
    try:
        model = tokenizers.Tokenizer.from_buffer(data)
    except ValueError:
        raise BadTokenizer("is not a tokenizer.json that can be used") from None
    # Some files cut or fill every text to the length of a training batch: that is no count.
    model.no_truncation()
    model.no_padding()
    return model


def _stamp(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns
