"""Search among millions of vectors: a short copy of each is read for every query, the vectors only of the best few.

Queries of one text encoder do not point everywhere: they fill a subspace of far fewer dimensions than the joint space.
A product with a query is then nearly a product within that subspace, so a copy of the vectors projected on it ranks
them nearly right, at a fraction of the bytes. The best few are scored again, exactly.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

ENERGY = 0.995  # of the queries' squared length that the subspace must hold
_BLOCK = 65_536  # rows held at once while building


@dataclass(frozen=True)
class Found:
    """The answer to Q queries, best first, equal products in the order of rows.

    Attributes:
        products: [Q, k] float32, of the whole vectors.
        rows: [Q, k] int64.
        sure: [Q] bool, True where no row that was left out can belong to the k best.
    """

    products: np.ndarray
    rows: np.ndarray
    sure: np.ndarray


def exact(vectors: np.ndarray, queries: np.ndarray, k: int = 10) -> Found:
    """Find the k rows with the largest product, by reading all of them.

    Args:
        vectors: [R, D] float32, an array or a memory map.
        queries: [Q, D] float32.
        k: 1 to R.

    Raises:
        ValueError: the widths differ, or k is out of range.
    """
    queries = _check(vectors, queries, k)
    found = [_best(vectors @ query, None, k) for query in queries]
    return _stack(found, [True] * len(queries), k)


def recall(rows: np.ndarray, right: np.ndarray) -> float:
    """Return which share of the right rows, [Q, k], stands among the found ones, [Q, k']: 0-1.

    Raises:
        ValueError: there are no queries, or their numbers differ.
    """
    if not len(right) or len(rows) != len(right):
        raise ValueError(f"rows are {rows.shape}, the right ones {right.shape}; expected one or more queries of both.")
    return float(np.mean([np.isin(mine, theirs).mean() for mine, theirs in zip(right, rows)]))


@dataclass(frozen=True, eq=False)
class LargeIndex:
    """Vectors, and their short copies in the queries' subspace.

    Attributes:
        vectors: [R, D] float32, an array or a memory map; only the best few are read.
        basis: [W, D] float32, orthonormal rows: the subspace.
        short: [R, W] float32, the vectors' coordinates in it.
        rest: the longest part of a vector outside of it.
    """

    vectors: np.ndarray
    basis: np.ndarray
    short: np.ndarray
    rest: float

    @classmethod
    def build(
        cls, vectors: np.ndarray, queries: np.ndarray, width: int | None = None, file: str | Path | None = None
    ) -> LargeIndex:
        """Project vectors on the subspace of sample queries.

        Args:
            vectors: [R, D] float32; an array or a memory map, read in blocks.
            queries: [N, D] float32, features of many texts, such as frequent words; not the texts that the index is
                judged by.
            width: W; None for as many dimensions as hold :data:`ENERGY` of the queries.
            file: where the short copies are written as a memory map (``.npy``); None keeps them in memory.

        Raises:
            ValueError: the vectors are no float32 matrix with rows, the widths differ, or W is out of range.
        """
        if vectors.ndim != 2 or vectors.dtype != np.float32 or not len(vectors):
            raise ValueError(f"vectors are {vectors.dtype} {vectors.shape}; expected float32 [R, D] with R above 0.")
        queries = _check(vectors, queries, 1)
        if not len(queries):
            raise ValueError("There are no sample queries; give the features of some hundred frequent words.")
        _, lengths, directions = np.linalg.svd(queries.astype(np.float64), full_matrices=False)
        held = np.cumsum(lengths**2) / np.sum(lengths**2)
        width = int(np.searchsorted(held, ENERGY)) + 1 if width is None else width
        if not 1 <= width <= len(directions):
            raise ValueError(f"width is {width}; expected 1 to {len(directions)}, what the sample queries span.")
        basis = directions[:width].astype(np.float32)
        shape = (len(vectors), width)
        mapped = np.lib.format.open_memmap
        short = np.empty(shape, np.float32) if file is None else mapped(file, "w+", np.float32, shape)
        rest = 0.0
        for start in range(0, len(vectors), _BLOCK):
            block = np.asarray(vectors[start : start + _BLOCK])
            inside = short[start : start + _BLOCK] = block @ basis.T
            outside = (block**2).sum(axis=1) - (inside**2).sum(axis=1)
            rest = max(rest, float(outside.max()))
        return cls(vectors, basis, short, rest**0.5)

    def __len__(self) -> int:
        return len(self.short)

    def search(self, queries: np.ndarray, k: int = 10, candidates: int = 1000) -> Found:
        """Find the k rows with the largest product among those that the short copies put first.

        Args:
            queries: [Q, D] float32.
            k: 1 to R.
            candidates: rows whose whole vectors are read; at least k, at most all count.

        Returns:
            The answer. ``sure`` comes from the inequality of Cauchy and Schwarz: the part of a product outside of the
            subspace is at most the product of the lengths there.

        Raises:
            ValueError: the widths differ, or k or ``candidates`` is out of range.
        """
        queries = _check(self.vectors, queries, k)
        if candidates < k:
            raise ValueError(f"candidates is {candidates}; expected at least k = {k}.")
        found, sure = [], []
        for query in queries:
            inside = self.basis @ query
            rough = self.short @ inside
            left = len(rough) - min(candidates, len(rough))
            order = np.argpartition(rough, left - 1) if left else np.arange(len(rough))
            chosen = np.sort(order[left:])
            products, rows = _best(self.vectors[chosen] @ query, chosen, k)
            outside = max(0.0, float(query @ query - inside @ inside)) ** 0.5 * self.rest
            found.append((products, rows))
            sure.append(not left or products[-1] > rough[order[left - 1]] + outside + 1e-5)
        return _stack(found, sure, k)


def _best(products: np.ndarray, rows: np.ndarray | None, k: int) -> tuple[np.ndarray, np.ndarray]:
    kept = np.arange(len(products))
    if k < len(products):
        border = np.partition(products, len(products) - k)[len(products) - k]
        kept = np.flatnonzero(products >= border)  # all that tie with the last place
    named = kept if rows is None else rows[kept]
    order = np.lexsort((named, -products[kept]))[:k]
    return products[kept][order], named[order]


def _stack(found: list[tuple[np.ndarray, np.ndarray]], sure: list[bool], k: int) -> Found:
    products, rows = (np.array([each[i] for each in found]).reshape(-1, k) for i in (0, 1))
    return Found(products.astype(np.float32), rows.astype(np.int64), np.array(sure, bool))


def _check(vectors: np.ndarray, queries: np.ndarray, k: int) -> np.ndarray:
    if queries.ndim != 2 or queries.shape[1] != vectors.shape[1]:
        raise ValueError(f"queries are {queries.shape}; expected [Q, {vectors.shape[1]}].")
    if not 1 <= k <= len(vectors):
        raise ValueError(f"k is {k}; expected 1 to {len(vectors)}.")
    return np.asarray(queries, np.float32)
