"""Ways to score photographs by a query of several parts: asked as a whole, part by part, or by its first word alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fdp_core import metrics
from fdp_core.phrases import Composed
from fdp_core.vector_sets import VectorSets

WAYS = {
    "whole": "the query as it is typed",
    "mean": "mean of the parts' scores",
    "min": "lowest of the parts' scores",
    "product": "product of the parts' scores, each (1 + cosine) / 2",
    "whole + mean": "mean of the first two",
    "one region": "mean of the parts' cosines within one vector, the best vector",
    "word alone": "the first part only",
}
_LAST = -2.0  # of a photograph without a vector: below every score


def score(sets: VectorSets, encode: Callable[[list[str]], np.ndarray], composed: Composed) -> dict[str, np.ndarray]:
    """Score every photograph for every query in every way.

    A part's score is its largest cosine among the photograph's vectors: with one vector for each region, every part
    finds its own region. A single vector cannot tell "mean" from "one region".

    Args:
        sets: the vectors of N photographs.
        encode: texts -> [T, D] float, unit norm.
        composed: Q queries.

    Returns:
        Way (of :data:`WAYS`) -> float64 [Q, N], larger is better.
    """
    texts = sorted({*composed.texts, *(part for parts in composed.parts for part in parts)})
    vectors = dict(zip(texts, np.asarray(encode(texts)))) if texts else {}
    whole = _filled(sets, [vectors[text] for text in composed.texts])
    out = {way: np.empty(whole.shape) for way in WAYS}
    for row, names in enumerate(composed.parts):
        parts = np.stack([vectors[name] for name in names])
        each = _filled(sets, parts)
        missing = each[0] == _LAST
        out["mean"][row] = each.mean(0)
        out["min"][row] = each.min(0)
        out["product"][row] = np.where(missing, _LAST, np.prod((1 + each) / 2, axis=0))
        out["one region"][row] = _filled(sets, parts.mean(0, keepdims=True))[0]
        out["word alone"][row] = each[0]
    out["whole"][:] = whole
    out["whole + mean"] = (whole + out["mean"]) / 2
    return out


def _filled(sets: VectorSets, queries: list[np.ndarray] | np.ndarray) -> np.ndarray:
    queries = np.asarray(queries, float).reshape(len(queries), sets.vectors.shape[1])
    scores = sets.scores(queries).astype(float)
    return np.where(np.isnan(scores), _LAST, scores)


def above_decoys(scores: np.ndarray, relevant: np.ndarray, decoys: np.ndarray) -> np.ndarray:
    """Tell how often an answer scores higher than a decoy: the area under the ROC curve over these photographs alone.

    Args:
        scores: float [Q, N].
        relevant: bool [Q, N], the answers.
        decoys: bool [Q, N].

    Returns:
        float64 [Q] in 0..1, equal scores count half; 0.5 is chance, NaN where a query has no answer or no decoy.

    Raises:
        ValueError: the shapes differ.
    """
    if not np.shape(scores) == np.shape(relevant) == np.shape(decoys):
        shapes = ", ".join(str(np.shape(each)) for each in (scores, relevant, decoys))
        raise ValueError(f"scores, answers and decoys must be matrices of one shape; they are {shapes}.")
    return metrics.above_rate(scores, relevant, decoys)


def interval(values: np.ndarray, seed: int = 0, level: float = 0.95) -> dict[str, float]:
    """Return mean and bootstrap interval over queries of values [Q], in %, and their number.

    Args:
        values: in 0..1, or differences of such; NaN (a query that has no such value) is left out.
        seed: of the bootstrap.
        level: share of the drawn means inside the interval, 0..1; for k comparisons at once 1 - 0.05 / k (Bonferroni).

    Returns:
        {"mean", "from", "to", "queries"}; NaN for the first three where nothing is left.
    """
    values = np.asarray(values, float)
    values = values[~np.isnan(values)]
    if not len(values):
        return {"mean": np.nan, "from": np.nan, "to": np.nan, "queries": 0}
    rounds = max(2000, round(50 / (1 - level)))  # some 25 draws lie beyond each end
    low, high = metrics.bootstrap_interval(values, level, rounds, seed)
    return {"mean": 100 * float(values.mean()), "from": 100 * low, "to": 100 * high, "queries": len(values)}


def measured(
    system: str,
    scores: dict[str, np.ndarray],
    composed: Composed,
    measure: Callable[[np.ndarray, Composed], np.ndarray],
    seed: int = 0,
) -> list[dict[str, object]]:
    """Summarise a value of each query by kind of query and way of asking.

    Args:
        system: what the table calls it.
        scores: of :func:`score`.
        composed: its Q queries.
        measure: (scores [q, N], q queries) -> [q] in 0..1, such as :func:`average_precisions`.
        seed: of the bootstrap.

    Returns:
        One dict for each kind and way: "system", "kind", "way" and those of :func:`interval`.
    """
    lines = []
    for kind in dict.fromkeys(composed.kinds.tolist()):
        rows = composed.kinds == kind
        for way, values in scores.items():
            found = interval(measure(values[rows], composed.take(rows)), seed)
            lines.append({"system": system, "kind": kind, "way": way, **found})
    return lines


def average_precisions(scores: np.ndarray, composed: Composed) -> np.ndarray:
    """Return the average precision of every query, [Q] in 0..1."""
    return metrics.average_precisions(composed.relevant, scores)


def decoy_shares(scores: np.ndarray, composed: Composed) -> np.ndarray:
    """Return :func:`above_decoys` of every query, [Q] in 0..1 or NaN."""
    return above_decoys(scores, composed.relevant, composed.decoys)
