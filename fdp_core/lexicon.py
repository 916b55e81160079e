"""Which words the renderer writes: a frequency list, numbers, prices, invented words, and picture concepts."""

from __future__ import annotations

import functools
import string
from collections.abc import Sequence
from pathlib import Path

import numpy as np

ASSETS = Path(__file__).parent / "assets"

# Concepts that an open icon font (Font Awesome 4.7, SIL OFL 1.1) can draw: name -> code point.
# Captions name the picture, as web captions do: this is what entangles content words with objects.
PICTURES: dict[str, int] = {
    "music": 0xF001, "letter": 0xF003, "heart": 0xF004, "star": 0xF005, "film": 0xF008, "trash": 0xF014,
    "home": 0xF015, "clock": 0xF017, "road": 0xF018, "lock": 0xF023, "flag": 0xF024, "headphones": 0xF025,
    "tag": 0xF02B, "book": 0xF02D, "printer": 0xF02F, "camera": 0xF030, "video": 0xF03D, "pencil": 0xF040,
    "gift": 0xF06B, "leaf": 0xF06C, "fire": 0xF06D, "eye": 0xF06E, "plane": 0xF072, "calendar": 0xF073,
    "magnet": 0xF076, "cart": 0xF07A, "key": 0xF084, "trophy": 0xF091, "lemon": 0xF094, "phone": 0xF095,
    "bell": 0xF0F3, "globe": 0xF0AC, "wrench": 0xF0AD, "briefcase": 0xF0B1, "cloud": 0xF0C2, "scissors": 0xF0C4,
    "truck": 0xF0D1, "money": 0xF0D6, "umbrella": 0xF0E9, "suitcase": 0xF0F2, "coffee": 0xF0F4, "food": 0xF0F5,
    "building": 0xF0F7, "hospital": 0xF0F8, "ambulance": 0xF0F9, "beer": 0xF0FC, "computer": 0xF108,
    "laptop": 0xF109, "keyboard": 0xF11C, "microphone": 0xF130, "shield": 0xF132, "rocket": 0xF135,
    "anchor": 0xF13D, "ticket": 0xF145, "compass": 0xF14E, "sun": 0xF185, "moon": 0xF186, "bug": 0xF188,
    "car": 0xF1B9, "taxi": 0xF1BA, "tree": 0xF1BB, "bank": 0xF19C, "bicycle": 0xF206, "bus": 0xF207,
    "train": 0xF238, "ship": 0xF21A, "motorcycle": 0xF21C, "hotel": 0xF236, "paw": 0xF1B0, "bomb": 0xF1E2,
}  # fmt: skip


@functools.cache
def words() -> tuple[str, ...]:
    """Return 60,000 English words in the order of their frequency, lower case.

    Source: the word list of the package wordfreq 3.1.1 (CC BY-SA 4.0), letters and apostrophes only.
    """
    return tuple((ASSETS / "lexicon.txt").read_text(encoding="utf-8").split())


def seen_in_training(texts: Sequence[str]) -> np.ndarray:
    """Say which texts mini can have met in its pre-training: words of the list, and anything of digits.

    Args:
        texts: Q queries.

    Returns:
        bool [Q]. Invented training words are random letters; one that equals a query by chance is not counted.
    """
    known = set(words())
    return np.array([text.lower() in known or any(c.isdigit() for c in text) for text in texts], dtype=bool)


def sample_word(rng: np.random.Generator, top: int = 60000) -> str:
    """Draw one word as signs carry them.

    Args:
        rng: the random generator.
        top: only the most frequent ``top`` words of the list are used.

    Returns:
        A word in lower case: 80 % from the list, 12 % numbers, prices, hours, 8 % invented.
    """
    kind = rng.random()
    if kind < 0.40:  # frequent words more often than rare ones: log-uniform rank
        return words()[int(np.exp(rng.random() * np.log(top)))]
    if kind < 0.80:
        return words()[int(rng.integers(top))]
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
