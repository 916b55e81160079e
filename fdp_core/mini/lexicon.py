"""Which words the renderer writes: a frequency list, numbers, prices, invented words."""

from __future__ import annotations

import string

import numpy as np

from fdp_core.words import english_words


def sample_word(rng: np.random.Generator, top: int = 60000) -> str:
    """Draw one word as signs carry them.

    Args:
        rng: the random generator.
        top: only the most frequent ``top`` words of the list are used.

    Returns:
        A word in lower case: 74 % from the list, 10 % of the list misspelt (names that no list holds look like
        that), 8 % numbers, prices, hours, 8 % invented.
    """
    kind = rng.random()
    if kind < 0.34:  # frequent words more often than rare ones: log-uniform rank
        return english_words()[int(np.exp(rng.random() * np.log(top)))]
    if kind < 0.74:
        return english_words()[int(rng.integers(top))]
    if kind < 0.84:
        return mutate(rng, english_words()[int(rng.integers(top))])
    if kind < 0.92:
        return _number(rng)
    length = int(rng.integers(2, 10))
    return _invented(rng, length)


def mutate(rng: np.random.Generator, word: str) -> str:
    """Return ``word`` after one random edit (substitution, deletion, insertion or swap of neighbours)."""
    letters = string.ascii_lowercase if not word.isdigit() else string.digits
    letter = letters[int(rng.integers(len(letters)))]
    i = int(rng.integers(len(word)))
    kind = int(rng.integers(4))
    if kind == 0 or len(word) < 3:
        return word[:i] + letter + word[i + 1 :]
    if kind == 1:
        return word[:i] + word[i + 1 :]
    if kind == 2:
        return word[:i] + letter + word[i:]
    i = min(i, len(word) - 2)
    return word[:i] + word[i + 1] + word[i] + word[i + 2 :]


def _number(rng: np.random.Generator) -> str:
    kind = int(rng.integers(6))
    digits = "".join(str(d) for d in rng.integers(0, 10, int(rng.integers(1, 6))))
    if kind == 0:
        return f"${int(rng.integers(1, 100))}.{int(rng.integers(0, 100)):02d}"
    if kind == 1:
        return f"{int(rng.integers(1, 13))}:{int(rng.integers(0, 60)):02d}"
    if kind == 2:
        return f"{int(rng.integers(200, 999))}-{int(rng.integers(0, 10000)):04d}"
    if kind == 3:
        return f"{int(rng.integers(5, 95))}%"
    return digits


def _invented(rng: np.random.Generator, length: int) -> str:
    """Return a pronounceable string: consonants and vowels alternate most of the time."""
    vowels, consonants = "aeiou", "bcdfghjklmnpqrstvwxyz"
    out, vowel = "", bool(rng.integers(2))
    for _ in range(length):
        pool = vowels if vowel else consonants
        out += pool[int(rng.integers(len(pool)))]
        vowel = (not vowel) if rng.random() < 0.85 else vowel
    return out
