"""Photographs described by several vectors each: the best of their cosines is the score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from fdp_core.datasets.types import Gallery


def top_rows(scores: np.ndarray, ids: tuple[str, ...] | list[str], k: int) -> list[int]:
    """Return the rows of the k highest of [N] scores, best first, equal ones by their ids, without sorting all.

    Raises:
        ValueError: k is not positive.
    """
    if k < 1:
        raise ValueError(f"k is {k}; expected 1 or more.")
    rows = np.arange(len(scores))
    if k < len(scores):
        border = np.partition(scores, len(scores) - k)[len(scores) - k]
        rows = np.flatnonzero(scores >= border)  # all that tie with the last place: ids decide among them
    order = np.lexsort((np.array([ids[row] for row in rows]), -scores[rows]))
    return [int(row) for row in rows[order][:k]]


@runtime_checkable
class Embedder(Protocol):
    """A system that gives photographs and queries vectors in one space; its score is their inner product, the
    largest one where a photograph has several vectors."""

    name: str

    def encode_gallery(self, gallery: Gallery) -> np.ndarray | VectorSets:
        """Return one vector a photograph, [N, D] float32, unit norm, a row of NaN for one that cannot be read; or N
        photographs with any number of vectors each."""

    def encode_queries(self, texts: list[str]) -> np.ndarray:
        """Return [Q, D] float32, unit norm."""


@runtime_checkable
class Scorer(Protocol):
    """A system that scores photographs without vectors, for example by reading them."""

    name: str

    def scores(self, gallery: Gallery, texts: list[str]) -> np.ndarray:
        """Return [Q, N] float, larger is better; NaN for a photograph that cannot be read."""


@dataclass(frozen=True)
class Speed:
    """How fast something was, with all that the number depends on (defect E7).

    Attributes:
        photographs: how many were processed afresh; 0 where all came from a cache.
        seconds: wall time for them.
        batch: photographs at once.
        precision: number format of the computation.
        device: where it ran.
        timed: what the time holds.
    """

    photographs: int
    seconds: float
    batch: int
    precision: str
    device: str
    timed: str

    @property
    def fps(self) -> float | None:
        """Photographs a second; None where nothing was computed."""
        return self.photographs / self.seconds if self.photographs and self.seconds > 0 else None


_BLOCK = 8_000_000  # products held at once: bounds the scratch memory to 64 MB


@dataclass(frozen=True, eq=False)
class VectorSets:
    """N photographs, photograph i owning the rows ``starts[i]:starts[i + 1]``; without rows it is unreadable.

    Attributes:
        vectors: [R, D] float32, unit norm, never NaN.
        starts: [N + 1] int64, from 0 to R, never decreasing.
        corners: [R, 4, 2] float32, the region of each vector in pixels of its upright photograph, NaN for the whole of
            it; None where no vector has a region.

    Raises:
        ValueError: a shape or a type is another one, a vector holds NaN, or ``starts`` does not divide the rows.
    """

    vectors: np.ndarray
    starts: np.ndarray
    corners: np.ndarray | None = None

    def __post_init__(self) -> None:
        vectors, starts = self.vectors, self.starts
        if vectors.ndim != 2 or vectors.dtype != np.float32:
            raise ValueError(f"vectors are {vectors.dtype} {vectors.shape}; expected float32 [R, D].")
        if starts.ndim != 1 or not len(starts) or starts.dtype != np.int64:
            raise ValueError(f"starts are {starts.dtype} {starts.shape}; expected int64 [N + 1].")
        if starts[0] != 0 or starts[-1] != len(vectors):
            raise ValueError(f"starts go from {starts[0]} to {starts[-1]}; expected 0 to {len(vectors)}, all rows.")
        if (np.diff(starts) < 0).any():
            raise ValueError(f"starts go down after place {np.argmax(np.diff(starts) < 0)}; expected never.")
        if self.corners is not None and self.corners.shape != (len(vectors), 4, 2):
            raise ValueError(f"corners are {self.corners.shape}; expected ({len(vectors)}, 4, 2).")
        step = max(1, _BLOCK // max(1, vectors.shape[1]))  # in blocks: a mask of all would take a quarter more
        if any(np.isnan(vectors[i : i + step]).any() for i in range(0, len(vectors), step)):
            raise ValueError("vectors hold NaN; a photograph that cannot be read has no row instead.")

    @classmethod
    def of(cls, features: np.ndarray | VectorSets) -> VectorSets:
        """Give every photograph one vector, whatever a system's ``encode_gallery`` returned.

        Args:
            features: [N, D] float, unit norm; a row with NaN for a photograph that cannot be read, which gets no row;
                or sets.
        """
        if isinstance(features, VectorSets):
            return features
        features = np.asarray(features)
        if features.ndim != 2:
            raise ValueError(f"features are {features.shape}; expected [N, D].")
        good = ~np.isnan(features).any(axis=1)
        return cls(features[good].astype(np.float32), np.append(0, np.cumsum(good)))

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def readable(self) -> np.ndarray:
        """Tell which photographs have a vector: [N] bool."""
        return np.diff(self.starts) > 0

    @property
    def single(self) -> bool:
        """Tell whether every readable photograph has exactly one vector."""
        return bool((np.diff(self.starts) <= 1).all())

    def take(self, mask: np.ndarray) -> VectorSets:
        """Return the photographs where ``mask``, [N] bool, is True."""
        if mask.dtype != bool or mask.shape != (len(self),):
            raise ValueError(f"The mask is {mask.dtype} {mask.shape}; expected bool ({len(self)},).")
        counts = np.diff(self.starts)
        rows = np.repeat(mask, counts)
        corners = None if self.corners is None else self.corners[rows]
        return VectorSets(self.vectors[rows], np.append(0, np.cumsum(counts[mask])), corners)

    def nearest(
        self, query: np.ndarray, k: int, weights: np.ndarray | None = None, among: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Find the k photographs with the highest scores, and those that tie with the last, in one pass of float32.

        Args:
            query: [D] float32, unit norm; or [Q, D], and the score is the sum of theirs by ``weights``.
            k: how many, at least 1.
            weights: [Q] float, see :func:`query_vectors`; None for a query of one vector.
            among: [N] bool, the photographs to choose from; None for all.

        Returns:
            (places of photographs [K] int64, ascending; their scores [K] float32, as :meth:`scores` rounds them). All
            others score surely less than the k best of these: the rounding of single precision is bounded.

        Raises:
            ValueError: the query has another width, or k is not positive.
        """
        queries, weights = np.atleast_2d(query).astype(np.float32), np.ones(1) if weights is None else weights
        if queries.shape != (len(weights), self.vectors.shape[1]):
            raise ValueError(f"The query is {query.shape}; expected {self.vectors.shape[1:]} or a row for each weight.")
        if k < 1:
            raise ValueError(f"k is {k}; expected 1 or more.")
        places = np.flatnonzero(self.readable)
        rough = np.zeros(0)
        if len(places):
            rough = np.maximum.reduceat(self.vectors @ queries.T, self.starts[places]) @ weights
        if among is not None:
            places, rough = places[among[places]], rough[among[places]]
        if not len(places):
            return places, np.zeros(0, np.float32)
        if k < len(places):
            slack = 4 * queries.shape[1] * 2.0**-24  # of a sum of D products of unit vectors, on both sides
            border = np.partition(rough, len(rough) - k)[len(rough) - k] - slack
            places = places[rough >= border]
        counts = self.starts[places + 1] - self.starts[places]
        ends = np.cumsum(counts)
        rows = np.arange(counts.sum()) + np.repeat(self.starts[places] - (ends - counts), counts)
        # Row by row, in double precision: copies of one photograph tie exactly wherever they stand.
        found = self.vectors[rows].astype(np.float64)
        products = np.stack([(found * each).sum(axis=1) for each in queries.astype(np.float64)], axis=1)
        return places, (np.maximum.reduceat(products, ends - counts) @ weights).astype(np.float32)

    def scores(self, queries: np.ndarray) -> np.ndarray:
        """Score every photograph by the largest cosine of a query [Q, D] with its vectors: [Q, N] float32.

        An unreadable photograph has a column of NaN.
        """
        if queries.ndim != 2 or queries.shape[1] != self.vectors.shape[1]:
            raise ValueError(f"queries are {queries.shape}; expected [Q, {self.vectors.shape[1]}].")
        scores = np.full((len(queries), len(self)), np.nan, np.float32)
        readable, vectors = self.readable, self.vectors.astype(np.float64).T
        # For an empty segment reduceat answers an entry of the next one; the full ones alone lie end to end.
        firsts = self.starts[:-1][readable]
        step = max(1, _BLOCK // max(1, len(self.vectors)))
        for i in range(0, len(queries), step):
            # Double precision, then rounded: copies of one photograph tie exactly wherever they stand.
            products = queries[i : i + step].astype(np.float64) @ vectors
            scores[i : i + step, readable] = np.maximum.reduceat(products, firsts, axis=1)
        return scores


def query_parts(system: Embedder, text: str) -> tuple[list[str], np.ndarray]:
    """Say what is asked for: (the text and, of a phrase, its words; their weights, float64, of sum one).

    Where ``system.by_words`` says that a vector holds a single word, a phrase is asked for by itself and by its words,
    half and half: they stand anywhere in the photograph, and a photograph in which they stand together gains.
    """
    words = text.split() if getattr(system, "by_words", False) else []
    if len(words) < 2:
        return [text], np.ones(1)
    return [text, *words], np.array([0.5, *[0.5 / len(words)] * len(words)])


def query_vectors(system: Embedder, text: str) -> tuple[np.ndarray, np.ndarray]:
    """Encode the :func:`query_parts` of a text: (vectors [Q, D] float32; their weights [Q])."""
    parts, weights = query_parts(system, text)
    vectors = np.asarray(system.encode_queries(parts), np.float32)
    if not np.isfinite(vectors).all():
        raise ValueError(f"{system.name} gave a vector with NaN or infinite numbers for the query {text!r}.")
    return vectors, weights


def score_texts(
    system: Embedder, sets: VectorSets, texts: Sequence[str], encoded: np.ndarray | None = None
) -> np.ndarray:
    """Score every photograph for every query, a phrase by its :func:`query_parts`.

    Args:
        system: encodes the queries.
        sets: the vectors of N photographs.
        texts: Q words or phrases.
        encoded: [Q, D] float, the queries where they are encoded already.

    Returns:
        [Q, N] float32; a column of NaN for an unreadable photograph.
    """
    scores = sets.scores(system.encode_queries(list(texts)) if encoded is None else encoded)
    queries = [query_parts(system, text) for text in texts]
    if words := sorted({word for parts, _ in queries for word in parts[1:]}):  # each is encoded once
        each = dict(zip(words, sets.scores(system.encode_queries(words)), strict=True))
        for row, (parts, weights) in enumerate(queries):
            scores[row] = weights @ np.stack([scores[row], *(each[word] for word in parts[1:])])
    return scores
