"""Many made vectors that lie as a few real ones do: to time a search where nobody has a million photographs."""

from __future__ import annotations

import numpy as np

_BLOCK = 65_536  # rows made at once
_NEIGHBOURS = 10


def jittered(vectors: np.ndarray, count: int, noise: float = 0.3, seed: int = 0) -> np.ndarray:
    """Put new vectors between neighbouring real ones, with some noise.

    Real features come in clusters; directions by chance do not. So each new vector is a real one, moved a random part
    of the way to one of its ten nearest neighbours, with noise in all directions.

    Args:
        vectors: [N, D] float32, unit norm, N at least 2.
        count: how many.
        noise: length of the noise before normalisation.
        seed: of the draws.

    Returns:
        [count, D] float32, unit norm.

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
        _normalise(part)
    return out


def gaussian(count: int, width: int, seed: int = 0) -> np.ndarray:
    """Make directions by chance, without any clusters: [count, width] float32, unit norm."""
    out = np.empty((count, width), np.float32)
    rng = np.random.default_rng(seed)
    for start in range(0, count, _BLOCK):
        _normalise(rng.standard_normal(out=out[start : start + _BLOCK], dtype=np.float32))
    return out


def turned(vectors: np.ndarray, width: int, seed: int = 0) -> np.ndarray:
    """Turn vectors [N, D] into a wider space, at random: [N, width] float32, all products as before.

    Raises:
        ValueError: the space is narrower than the vectors.
    """
    if width < vectors.shape[1]:
        raise ValueError(f"width is {width}; expected at least {vectors.shape[1]}.")
    there = np.random.default_rng(seed).standard_normal((width, vectors.shape[1]))
    return (vectors @ np.linalg.qr(there)[0].T).astype(np.float32)


def neighbours(vectors: np.ndarray, count: int) -> np.ndarray:
    """Return the rows of the nearest other vectors, in no order: [N, count] int64."""
    found, step = [], max(1, 2**24 // len(vectors))
    for start in range(0, len(vectors), step):
        block = vectors[start : start + step] @ vectors.T
        block[np.arange(len(block)), np.arange(start, start + len(block))] = -np.inf  # not itself
        found.append(np.argpartition(block, -count, axis=1)[:, -count:])
    return np.concatenate(found)


def _normalise(part: np.ndarray) -> None:
    part /= np.linalg.norm(part, axis=1, keepdims=True)
