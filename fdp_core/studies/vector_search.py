"""Search among a million vectors: made vectors like real ones, exact search, Faiss where it is installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

import numpy as np

from fdp_core.retrieval.vectors import top_rows

_BLOCK = 65_536  # rows made at once
_NEIGHBOURS = 10
Search = Callable[[np.ndarray], np.ndarray]  # queries [Q, D] -> rows [Q, 10]


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
    out = np.empty((count, width), np.float32)
    rng = np.random.default_rng(seed)
    for start in range(0, count, _BLOCK):
        part = rng.standard_normal(out=out[start : start + _BLOCK], dtype=np.float32)
        part /= np.linalg.norm(part, axis=1, keepdims=True)
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


def faiss_searches(vectors: np.ndarray, threads: int = 1) -> dict[str, Search]:
    """Build two indexes of Faiss: groups around centres with eight-bit numbers, and products of four bits.

    The best thousand of both are scored again by the whole vectors.

    Returns:
        Name -> a search for the ten best rows of ``vectors`` [R, D]; nothing where Faiss is not installed, as it is no
        requirement.

    Source: Johnson, Douze, Jégou, Billion-scale similarity search (2021).
    """
    if importlib.util.find_spec("faiss") is None:
        return {}
    import faiss

    faiss.omp_set_num_threads(threads)
    groups = max(1, round(2 * len(vectors) ** 0.5))
    grouped, products = f"IVF{groups},SQ8,RFlat", f"PQ{vectors.shape[1] // 2}x4fs,RFlat"
    searches: dict[str, Search] = {}
    for names, recipe in (
        ({"Faiss, a twentieth of the groups": groups // 20, "Faiss, half of the groups": groups // 2}, grouped),
        ({"Faiss, 4-bit products": 0}, products),
    ):
        index = faiss.index_factory(vectors.shape[1], recipe, faiss.METRIC_INNER_PRODUCT)
        index.train(vectors[:: max(1, len(vectors) // (40 * groups))])
        index.add(vectors)
        index.k_factor = 100  # ten rows are chosen among a thousand whole vectors
        for name, probes in names.items():

            def search(queries: np.ndarray, index: object = index, probes: int = probes) -> np.ndarray:
                if probes > 1:
                    faiss.extract_index_ivf(index).nprobe = probes
                return index.search(queries, 10)[1]

            searches[name] = search
    return searches
