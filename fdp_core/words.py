"""Which words count: legibility, the training filter, the frequent words that the clusters are fitted on."""

from __future__ import annotations

import functools
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fdp_core.datasets.types import Gallery, Word

ASSETS = Path(__file__).parent / "assets"


@functools.cache
def english_words() -> tuple[str, ...]:
    """Return 60,000 English words in the order of their frequency, lower case.

    Source: the word list of the package wordfreq 3.1.1 (CC BY-SA 4.0), letters and apostrophes only.
    """
    return tuple((ASSETS / "lexicon.txt").read_text(encoding="utf-8").split())


MIN_LENGTH = 3  # characters; the released code trains on words longer than two
MAX_LENGTH = 13  # characters; the longest word in the released list of frequent words

# A general list for training sets that are too small to count words in. Function words are closed-class words
# of English; content words are what shops, streets and signs say. Both anchors ("the", "office") are in it.
FUNCTION_WORDS: tuple[str, ...] = tuple((ASSETS / "function_words.txt").read_text(encoding="utf-8").split())
CONTENT_WORDS: tuple[str, ...] = tuple((ASSETS / "content_words.txt").read_text(encoding="utf-8").split())


def is_legible(word: Word) -> bool:
    """Say whether an annotated word supervises: Latin, not empty, no ``###``, not marked to be ignored.

    Source: FDP section 3.5 and the released code (the ignore mask).
    """
    return not word.ignore and word.script == "Latin" and bool(word.text.strip()) and "###" not in word.text


def fold(text: str) -> str:
    """Return the text as queries are compared: NFC, lower case, stripped."""
    return unicodedata.normalize("NFC", text).strip().lower()


def keep_for_training(word: Word, dictionary: Collection[str] | None = None) -> bool:
    """Say whether a word makes a training sample: legible, longer than two characters and in the dictionary.

    Args:
        word: the annotated word.
        dictionary: folded words; use a set. ``None`` admits every word.

    Source: FDP section 4.1 and the released code.
    """
    text = fold(word.text)
    return is_legible(word) and len(text) >= MIN_LENGTH and (dictionary is None or text in dictionary)


def count_words(galleries: Iterable[Gallery]) -> Counter[str]:
    """Count the folded legible words of galleries."""
    return Counter(
        fold(word.text) for gallery in galleries for photo in gallery.photos for word in photo.words if is_legible(word)
    )


def frequent_words(counts: dict[str, int], size: int = 500) -> list[str]:
    """Choose the words that the two clusters are fitted on.

    Args:
        counts: how often each word stands in the training set.
        size: how many words to return; fewer come back when there are not enough.

    Returns:
        Lower-case words of 3-13 characters: the anchors of the clusters, "the" and "office", then by falling count,
        then by alphabet, then from the general lists, each at most once.

    Raises:
        ValueError: ``size`` is smaller than two, so two clusters cannot be fitted.

    Source: FDP section 3.3 and the released code; defect C1 (the list is saved with the checkpoint).
    """
    if size < 2:
        raise ValueError(f"The word list needs at least 2 words, not {size}; two clusters are fitted on it.")
    merged: Counter[str] = Counter()
    for word, count in counts.items():
        merged[fold(word)] += count
    counted = sorted(
        (word for word in merged if MIN_LENGTH <= len(word) <= MAX_LENGTH and word.isalnum()),
        key=lambda word: (-merged[word], word),
    )
    chosen = dict.fromkeys(("the", "office"))
    for word in [*counted, *_alternate([*FUNCTION_WORDS, *CONTENT_WORDS])]:
        if len(chosen) >= size:
            break
        chosen.setdefault(word)
    return list(chosen)


def _alternate(words: list[str]) -> list[str]:
    """Interleave the two halves, so that a short fill still holds function and content words."""
    half = len(words) // 2
    pairs = [word for pair in zip(words[:half], words[half:], strict=False) for word in pair]
    return pairs + words[2 * half :]
