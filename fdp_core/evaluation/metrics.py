"""Retrieval metrics: numbers in, float out; nothing here knows a model, an image or a file.

Everywhere ``relevant`` is bool [Q, N], True where photograph n answers query q, and ``scores`` are real and finite, [Q,
N], larger is better. All treat equal scores as one group, so that the order of the files in a gallery never changes a
number. Scores may have any real type: bool, integers, floats, lists, tensors. All are compared as float64. A
``TypeError`` says that they are no real numbers; a ``ValueError`` that shapes differ, that a score is not finite, or
that a query has no relevant photograph.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import ArrayLike

_CHUNK = 4_000_000  # score entries handled at once: bounds the scratch memory to some 200 MB


def _real(values: ArrayLike, name: str = "scores") -> np.ndarray:
    """Return values of any real type as float64: unsigned integers cannot be negated, small floats cannot count."""
    if hasattr(values, "detach"):  # a tensor: NumPy lacks bfloat16
        values = values.detach().cpu().double()
    values = np.asarray(values)
    small_float = values.dtype.kind == "V" and values.dtype.fields is None  # bfloat16 of ml_dtypes
    if values.dtype.kind not in "buif" and not small_float:
        raise TypeError(f"{name} are of type {values.dtype}; expected real numbers.")
    return values.astype(np.float64, copy=False)


def _checked(relevant: ArrayLike, scores: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    relevant, scores = np.asarray(relevant), _real(scores)
    if relevant.shape != scores.shape or scores.ndim != 2:
        raise ValueError(
            f"relevant {relevant.shape} and scores {scores.shape} must be two matrices of one shape "
            "[queries, photographs]."
        )
    if not np.isfinite(scores).all():
        raise ValueError(
            "scores hold NaN or infinite values; give a photograph without a score the lowest one instead."
        )
    relevant = relevant.astype(bool)
    empty = np.flatnonzero(~relevant.any(axis=1))
    if empty.size:
        raise ValueError(
            f"{empty.size} queries have no relevant photograph (first: row {int(empty[0])}); AP "
            "and recall are not defined for them. Drop these queries or complete the gallery."
        )
    return relevant, scores


def average_precisions(relevant: ArrayLike, scores: ArrayLike) -> np.ndarray:
    """Compute the non-interpolated average precision of every query, equal scores grouped: float64 [Q] in (0, 1].

    Any strictly increasing map of the scores leaves the result unchanged.

    Source: benchmarks' common protocol (sklearn.metrics.average_precision_score); defects E3, E7.
    """
    relevant, scores = _checked(relevant, scores)
    queries, photographs = scores.shape
    result = np.empty(queries)
    step = max(1, _CHUNK // max(1, photographs))
    for start in range(0, queries, step):
        part = slice(start, start + step)
        order = np.argsort(-scores[part], axis=1, kind="stable")
        ranked = np.take_along_axis(scores[part], order, axis=1)
        hits = np.take_along_axis(relevant[part], order, axis=1)
        # Every member of a group of equal scores gets the precision at the group's end.
        ends = np.ones(ranked.shape, bool)
        ends[:, :-1] = ranked[:, 1:] != ranked[:, :-1]
        last = np.where(ends, np.arange(photographs), photographs)
        last = np.minimum.accumulate(last[:, ::-1], axis=1)[:, ::-1]
        precision = np.take_along_axis(np.cumsum(hits, axis=1), last, axis=1) / (last + 1)
        result[part] = (precision * hits).sum(axis=1) / hits.sum(axis=1)
    return result


def average_precision(relevant: ArrayLike, scores: ArrayLike) -> float:
    """Compute the average precision of one query, [N] both; [1, 0, 1, 0, 0] in ranked order gives 0.8333."""
    return float(average_precisions(np.asarray(relevant)[None], _real(scores)[None])[0])


def mean_average_precision(relevant: ArrayLike, scores: ArrayLike) -> float:
    """Compute the unweighted mean over the queries of the average precision: a float in (0, 1].

    Source: FDP section 4 (mAP).
    """
    return float(average_precisions(relevant, scores).mean())


def hits_at(relevant: ArrayLike, scores: ArrayLike, k: int) -> np.ndarray:
    """Count the relevant photographs among the first k; a group of equal scores that k cuts counts in proportion.

    The proportion is the expected count when the members of that group stand in random order.

    Args:
        k: length of the shown list, at least 1; may exceed N.

    Returns:
        [Q] float64 in [0, k].
    """
    if k < 1:
        raise ValueError(f"k is {k}; expected 1 or more.")
    relevant, scores = _checked(relevant, scores)
    photographs = scores.shape[1]
    if k >= photographs:
        return relevant.sum(axis=1).astype(float)
    border = np.partition(scores, photographs - k, axis=1)[:, photographs - k, None]  # the k-th best score
    above, tied = scores > border, scores == border
    places = k - above.sum(axis=1)
    return (relevant & above).sum(axis=1) + (relevant & tied).sum(axis=1) * places / tied.sum(axis=1)


def share_below(first: ArrayLike, second: ArrayLike) -> np.ndarray:
    """Return for each of [A] scores the share of [B] scores below it, equal ones by half: float64 [A] in 0..1."""
    first, ranked = _real(first), np.sort(_real(second))
    return (np.searchsorted(ranked, first, "left") + np.searchsorted(ranked, first, "right")) / (2 * len(ranked))


def above_rate(scores: ArrayLike, first: ArrayLike, second: ArrayLike) -> np.ndarray:
    """Compute for each query how often a photograph of one kind ranks above one of another, over all such pairs.

    Args:
        first: [Q, N] bool, the one kind; ``second`` the other.

    Returns:
        float64 [Q] in 0..1, equal scores by half, NaN for a query without a pair; 0.5 by chance: the area under the
        ROC curve over these photographs alone.
    """
    scores, first, second = _real(scores), np.asarray(first, bool), np.asarray(second, bool)
    if not scores.shape == first.shape == second.shape:
        raise ValueError(
            f"scores {scores.shape}, first {first.shape} and second {second.shape} must be matrices of one shape."
        )
    pairs = zip(scores, first, second)
    return np.array([share_below(s[a], s[b]).mean() if a.any() and b.any() else np.nan for s, a, b in pairs], float)


def recall_at(relevant: ArrayLike, scores: ArrayLike, k: int) -> float:
    """Compute recall@k: the share of a query's relevant photographs among the first k, mean over the queries (E7)."""
    return float((hits_at(relevant, scores, k) / np.asarray(relevant).astype(bool).sum(axis=1)).mean())


def precision_at(relevant: ArrayLike, scores: ArrayLike, k: int) -> float:
    """Compute P@k: relevant photographs among the first k, divided by k, mean over the queries (E7).

    The divisor is k even where a query has fewer relevant photographs, so 1 may be out of reach.
    """
    return float((hits_at(relevant, scores, k) / k).mean())


def group_means(values: ArrayLike, groups: dict[str, ArrayLike]) -> dict[str, dict[str, float]]:
    """Average a per-query value [Q] inside named groups of queries, [Q] bool each; an empty one is left out.

    Returns:
        name -> {"mean": float, "queries": int}.
    """
    values, result = _real(values, "values"), {}
    for name, member in groups.items():
        member = np.asarray(member, bool)
        if member.shape != values.shape:
            raise ValueError(f"group {name!r} has shape {member.shape}; expected {values.shape}, one entry a query.")
        if member.any():
            result[name] = {"mean": float(values[member].mean()), "queries": int(member.sum())}
    return result


def random_average_precision(relevant_count: np.ndarray | int, photographs: int) -> np.ndarray:
    """Compute the expected average precision of a ranking in random order: the level called "chance".

    Args:
        relevant_count: R, relevant photographs of a query (integer or [Q] integers), from 1 to N.
        photographs: N, at least 1.

    Returns:
        float64 of the shape of ``relevant_count``: s + (1 - s) H_N / N with s = (R - 1) / (N - 1).
    """
    counts = np.asarray(relevant_count, float)
    harmonic = (1.0 / np.arange(1, photographs + 1)).sum()
    share = (counts - 1) / max(1, photographs - 1)
    return share + (1 - share) * harmonic / photographs


Seed = int | Sequence[int] | np.random.Generator


def resampled(count: int, rounds: int = 2000, seed: Seed = 0) -> Iterator[np.ndarray]:
    """Draw the rows of a sample again with replacement, ``rounds`` times: int64 [count] each."""
    rng = np.random.default_rng(seed)
    return (rng.integers(0, count, count) for _ in range(rounds))


def central(drawn: ArrayLike, level: float = 0.95) -> np.ndarray:
    """Return the ends of the middle share of what was drawn, [rounds] or [rounds, K], NaN left out: [2] or [2, K]."""
    return np.nanquantile(_real(drawn, "drawn values"), [(1 - level) / 2, (1 + level) / 2], axis=0)


def verdict(low: float, high: float) -> str:
    """Say what an interval of a difference tells: "better" or "worse" where it leaves zero out, else "no clear
    difference"."""
    return "better" if low > 0 else "worse" if high < 0 else "no clear difference"


def bootstrap_interval(
    values: ArrayLike, level: float = 0.95, rounds: int = 2000, seed: Seed = 0
) -> tuple[float, float]:
    """Estimate the interval of a mean over queries by drawing the queries again with replacement.

    Args:
        values: [Q] real, for example average precisions.
        level: share of the drawn means inside the interval, between 0 and 1.

    Returns:
        (low, high).
    """
    values = _real(values, "values")
    low, high = central([values[rows].mean() for rows in resampled(len(values), rounds, seed)], level)
    return float(low), float(high)
