"""Distracted queries: words that look like the query and must be told apart from it (training only)."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import Levenshtein
import numpy as np
import torch
from torch import Tensor

from fdp_core.config import Count, Positive, Target, check

PADDING = "###"
OFFSET = 0.1  # in the released target softmax(1 / (d + 0.1))
_BINS = 64  # characters are counted by their code modulo this


def reach(word: str) -> int:
    """Return the largest edit distance of a distractor: 2 for words longer than five characters, else 1.

    Source: FDP section 3.4 and the released code.
    """
    return 2 if len(word) > 5 else 1


def _letters(word: str) -> np.ndarray:
    """Count a word's characters: int16 [_BINS]."""
    return np.bincount(np.array([ord(c) % _BINS for c in word], int), minlength=_BINS).astype(np.int16)


@dataclass(frozen=True)
class Candidates:
    """The candidates of B anchors, anchor first.

    Attributes:
        texts: B lists of K words; ``###`` fills the places that no neighbour takes.
        distances: float32 ``[B, K]``, edit distances to the anchor.
        valid: bool ``[B, K]``, false where a place is padding.
    """

    texts: list[list[str]]
    distances: Tensor
    valid: Tensor

    def flat(self) -> list[str]:
        """Return the B * K words, row after row."""
        return [word for row in self.texts for word in row]

    def to(self, device: torch.device | str) -> Candidates:
        """Return the candidates with their tensors on the device."""
        return Candidates(self.texts, self.distances.to(device), self.valid.to(device))


class Distractors:
    """Neighbours in a dictionary by Levenshtein distance, looked up once and sampled with a seed.

    Args:
        dictionary: the words that may distract; folded and made unique by the caller's rules.
        anchors: words whose neighbours are wanted; others are looked up when they first come.
        candidates: K, the anchor and K - 1 distractors.
        seed: seed of the choice among neighbours that are equally near.

    Raises:
        ValueError: K is smaller than one.

    Source: FDP section 3.4; defect C5 (precomputed, independent of the hash seed).
    """

    def __init__(
        self, dictionary: Iterable[str], anchors: Iterable[str] = (), candidates: int = 5, seed: int = 0
    ) -> None:
        check("candidates", candidates, Count)  # the anchor itself is one
        self.words = sorted(set(dictionary), key=lambda word: (len(word), word))
        self.candidates, self.seed = candidates, seed
        self._lengths = np.array([len(word) for word in self.words], dtype=np.int64)
        self._letters = np.stack([_letters(word) for word in self.words]) if self.words else np.zeros((0, _BINS))
        self._lists: dict[str, list[tuple[int, str]]] = {}
        self.prepare(anchors)

    def prepare(self, anchors: Iterable[str]) -> None:
        """Look up and keep the neighbour lists of many words at once."""
        for word in {*anchors} - self._lists.keys():
            limit = reach(word)
            low, high = np.searchsorted(self._lengths, [len(word) - limit, len(word) + limit + 1])
            # an edit changes the letter counts by two at most: few words are left to compare letter by letter
            apart = np.abs(self._letters[low:high] - _letters(word)).sum(axis=1)
            near = [self.words[low + hit] for hit in np.flatnonzero(apart <= 2 * limit)]
            found = ((Levenshtein.distance(word, other, score_cutoff=limit), other) for other in near)
            self._lists[word] = sorted(pair for pair in found if 0 < pair[0] <= limit)

    def neighbours(self, word: str) -> list[tuple[int, str]]:
        """Return ``(distance, word)`` of every other word within :func:`reach`, sorted."""
        if word not in self._lists:
            self.prepare([word])
        return self._lists[word]

    def sample(
        self, anchors: Sequence[str], exclude: Sequence[Collection[str]] | None = None, step: int | str = 0
    ) -> Candidates:
        """Choose the candidates of a batch: the anchor, then its nearest neighbours, ties broken by lot.

        Args:
            anchors: B words.
            exclude: B sets of words that are no distractors, such as the true words of the same image (defect C6).
            step: a number or name that changes the lot, for example the epoch; equal arguments give equal choices.

        Raises:
            ValueError: ``exclude`` does not hold one set for each anchor.

        Source: FDP section 3.4; defects C5 and C6.
        """
        if exclude is not None and len(exclude) != len(anchors):
            raise ValueError(f"{len(anchors)} anchors need {len(anchors)} sets of excluded words, not {len(exclude)}.")
        self.prepare(anchors)
        texts, distances, valid = [], [], []
        for row, anchor in enumerate(anchors):
            barred = exclude[row] if exclude is not None else ()
            near = [pair for pair in self._lists[anchor] if pair[1] not in barred]
            # `random` hashes a string seed with SHA-512: the same in every process and on every machine.
            lot = random.Random(f"{self.seed} {step} {anchor}")
            near = sorted((distance, lot.random(), word) for distance, word in near)[: self.candidates - 1]
            empty = self.candidates - 1 - len(near)
            texts.append([anchor, *(word for _, _, word in near), *[PADDING] * empty])
            far = Levenshtein.distance(anchor, PADDING)
            distances.append([0, *(distance for distance, _, _ in near), *[far] * empty])
            valid.append([True] * (1 + len(near)) + [False] * empty)
        return Candidates(
            texts,
            torch.tensor(distances, dtype=torch.float32).reshape(-1, self.candidates),
            torch.tensor(valid, dtype=torch.bool).reshape(-1, self.candidates),
        )


def soft_targets(
    distances: Tensor, kind: str = "temperature", temperature: float = 0.5, valid: Tensor | None = None
) -> Tensor:
    """Turn edit distances into the target distribution over the candidates.

    Args:
        distances: float ``[B, K]``, in edits.
        kind: "temperature" gives softmax(-d / T); "inverse" gives the released softmax(1 / (d + 0.1)), which
            leaves the anchor 0.9995 of the mass.
        temperature: T, in edits; only for "temperature".
        valid: bool ``[B, K]``; padding gets zero mass. ``None`` counts every candidate, as the released code does.

    Returns:
        float ``[B, K]``, each row sums to one.

    Raises:
        ValueError: the kind is unknown or the temperature is not positive.

    Source: FDP section 3.4; defects C4 and C5.
    """
    check("distraction_target", kind, Target)
    check("distraction_temperature", temperature, Positive)
    logits = -distances / temperature if kind == "temperature" else 1.0 / (distances + OFFSET)
    if valid is not None:
        logits = logits.masked_fill(~valid, -torch.inf)
    return torch.softmax(logits, dim=-1)
