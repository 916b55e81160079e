"""Search among a million vectors: made vectors like real ones, and exact search."""

from __future__ import annotations

import numpy as np

from fdp_core.retrieval.vectors import top_rows

_BLOCK = 65_536  # rows made at once
_NEIGHBOURS = 10


def jittered(vectors: np.ndarray, count: int, noise: float = 0.3, seed: int = 0) -> np.ndarray:
    """Put new vectors between neighbouring real ones, with some noise.

    Real features come in clusters; random directions do not. So each new vector is a real one, moved a random part of
    the way to one of its ten nearest neighbours, with noise in all directions.

    ``vectors`` and the ``count`` new ones are float32, unit norm; ``noise`` is its length before normalisation.

    Source: interpolation between neighbours, as in SMOTE (Chawla et al. 2002).
    """
    if vectors.ndim != 2 or len(vectors) < 2:
        raise ValueError(f"vectors are {vectors.shape}; expected [N, D] with N at least 2.")
    rng, near = np.random.default_rng(seed), neighbours(vectors, min(_NEIGHBOURS, len(vectors) - 1))
    out = np.empty((count, vectors.shape[1]), np.float32)
    for start in range(0, count, _BLOCK):
        part = out[start : start + _BLOCK]
        one = rng.integers(len(vectors), size=len(part))
        other = near[one, rng.integers(near.shape[1], size=len(part))]
        share = rng.random((len(part), 1), dtype=np.float32)
        rng.standard_normal(out=part, dtype=np.float32)
        part *= noise / part.shape[1] ** 0.5
        part += vectors[one] + share * (vectors[other] - vectors[one])
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    return out


def gaussian(count: int, width: int, seed: int = 0) -> np.ndarray:
    """Draw random directions, without any clusters: [count, width] float32, unit norm."""
    out = np.random.default_rng(seed).standard_normal((count, width), dtype=np.float32)
    out /= np.linalg.norm(out, axis=1, keepdims=True)
    return out


def turned(vectors: np.ndarray, width: int) -> np.ndarray:
    """Turn vectors [N, D] into a wider space, at random: [N, width] float32, all products as before."""
    if width < vectors.shape[1]:
        raise ValueError(f"width is {width}; expected at least {vectors.shape[1]}.")
    there = np.random.default_rng(0).standard_normal((width, vectors.shape[1]))
    return (vectors @ np.linalg.qr(there)[0].T).astype(np.float32)


def neighbours(vectors: np.ndarray, count: int) -> np.ndarray:
    """Return the rows of the nearest other vectors, in no order: [N, count] int64."""
    found, step = [], max(1, 2**24 // len(vectors))
    for start in range(0, len(vectors), step):
        block = vectors[start : start + step] @ vectors.T
        block[np.arange(len(block)), np.arange(start, start + len(block))] = -np.inf  # not itself
        found.append(np.argpartition(block, -count, axis=1)[:, -count:])
    return np.concatenate(found)


def exact(vectors: np.ndarray, queries: np.ndarray, k: int = 10) -> np.ndarray:
    """Find the k rows with the largest products by reading all R vectors: queries [Q, D] -> rows [Q, min(k, R)]."""
    return np.array([top_rows(vectors @ query, range(len(vectors)), k) for query in queries])


def recall(rows: np.ndarray, right: np.ndarray) -> float:
    """Return which share of the right rows, [Q, k], stands among the found ones, [Q, k']: 0-1."""
    if not len(right) or len(rows) != len(right):
        raise ValueError(f"rows are {rows.shape}, the right ones {right.shape}; expected one or more queries of both.")
    return float(np.mean([np.isin(mine, theirs).mean() for mine, theirs in zip(right, rows)]))
