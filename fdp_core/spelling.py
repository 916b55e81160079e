"""Which letter stands where in a word: a pyramid of character histograms, used as an extra target in pre-training."""

from __future__ import annotations

import functools
import string

import numpy as np

ALPHABET = string.ascii_lowercase + string.digits
LEVELS = (1, 2, 3, 4, 6)
SIZE = sum(LEVELS) * len(ALPHABET)  # 576


@functools.lru_cache(maxsize=65536)
def pyramid(word: str) -> np.ndarray:
    """Return the PHOC of a word: for each level l, which characters occur in each of its l equal parts.

    Args:
        word: any text; case is folded and characters outside a-z, 0-9 only take up room.

    Returns:
        float32 [576] of 0 and 1; bit (part, character) is set when at least half of the character lies in the part.

    Source: Almazan et al., "Word spotting and recognition with embedded attributes", TPAMI 2014.
    """
    bits = np.zeros((sum(LEVELS), len(ALPHABET)), np.float32)
    n, word, row = len(word), word.lower(), 0
    for level in LEVELS:
        for part in range(level):
            low, high = part / level, (part + 1) / level
            for i, letter in enumerate(word):
                overlap = min((i + 1) / n, high) - max(i / n, low)
                if letter in ALPHABET and overlap * n >= 0.5 - 1e-9:
                    bits[row, ALPHABET.index(letter)] = 1
            row += 1
    bits.flags.writeable = False
    return bits.reshape(-1)
