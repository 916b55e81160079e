"""The character-level tokenizer of the compact CLIP."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


class CharTokenizer:
    """Spells a text letter by letter, so that words never seen in training have a code of their own.

    Ids: 0 padding, 1 start, 32..126 the printable ASCII characters, 127 end (the largest, so that CLIP's
    argmax finds it).
    """

    pad, start, end, vocab_size = 0, 1, 127, 128

    def __init__(self, context_length: int) -> None:
        if context_length < 3:
            raise ValueError(
                f"context_length is {context_length}; expected at least 3 (start, one letter, end)."
            )
        self.context_length = context_length

    @staticmethod
    def fold(text: str) -> str:
        """Return ``text`` in lower case and plain ASCII: no accents, single spaces, '?' for the rest."""
        text = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text.lower()).lower())
        text = " ".join("".join(c for c in text if not unicodedata.combining(c)).split())
        return "".join(c if 32 <= ord(c) <= 126 else "?" for c in text)

    def __call__(self, texts: str | Sequence[str], context_length: int | None = None) -> Tensor:
        """Encode texts; what does not fit is cut, the end token stays.

        Args:
            texts: one text or N texts.
            context_length: number of ids a text, if not the tokenizer's own.

        Returns:
            int64 [N, context_length].
        """
        texts = [texts] if isinstance(texts, str) else texts
        length = context_length or self.context_length
        ids = np.zeros((len(texts), length), dtype=np.int64)
        for row, text in zip(ids, texts, strict=True):
            codes = self.fold(text).encode("ascii")[: length - 2]
            row[0] = self.start
            row[1 : 1 + len(codes)] = np.frombuffer(codes, dtype=np.uint8)
            row[1 + len(codes)] = self.end
        return torch.from_numpy(ids)
